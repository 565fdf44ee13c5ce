#include "ports.h"

#include <algorithm>
#include <charconv>

#include "hpcsurrogate.h"

namespace hpcs {
namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& key) {
    throw Error(HPCS_BAD_MODEL, path + ": fact `" + key + "` is missing or damaged; export the model again");
}

std::string fact_of(const Facts& facts, const std::string& key, const std::string& path) {
    const auto fact = facts.find(key);
    if (fact == facts.end())
        refuse(path, key);
    return fact->second;
}

/// Not strtod, which reads a comma for the point if the host has set such a locale.
template <class Number>
Number number_of(const std::string& text, const std::string& key, const std::string& path) {
    Number number{};
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || rest != end)
        refuse(path, key);
    return number;
}

Port read_port(const Facts& facts, const std::string& key, const std::string& name, const std::string& path) {
    const auto words = words_of(fact_of(facts, key, path));
    if (words.size() != 5 || words[3].empty() || words[3].size() > HPCS_MAX_DIMS ||
        words[3].find_first_not_of("bncxyz") != std::string::npos)
        refuse(path, key);
    Port port{name + " (" + words[0] + ")", words[0], words[1], words[2], words[3], 1};
    // "-": a scalar, whose array has no axis for components.
    if (words[4] == "-")
        port.axes.erase(std::remove(port.axes.begin(), port.axes.end(), 'c'), port.axes.end());
    else
        port.num_components = static_cast<std::int64_t>(words_of(words[4], ',').size());
    return port;
}

Port side_by_side(const std::vector<Port>& ports) {
    Port whole = ports[0];
    for (std::size_t i = 1; i < ports.size(); ++i) {
        whole.field += ", " + ports[i].field;
        whole.num_components += ports[i].num_components;
    }
    whole.name = "output (" + whole.field + ")";
    return whole;
}

}  // namespace

std::vector<std::string> words_of(std::string_view text, char separator) {
    std::vector<std::string> words;
    while (!text.empty()) {
        const auto end = std::min(text.find(separator), text.size());
        if (end > 0)
            words.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return words;
}

std::vector<double> numbers_of(const Facts& facts, const std::string& key, const std::string& path) {
    std::vector<double> numbers;
    for (const auto& word : words_of(fact_of(facts, key, path)))
        numbers.push_back(number_of<double>(word, key, path));
    if (numbers.empty())
        refuse(path, key);
    return numbers;
}

Ports read_ports(const Facts& facts, const std::string& path) {
    Ports ports;
    const int num_inputs = number_of<int>(fact_of(facts, "num_inputs", path), "num_inputs", path);
    for (int i = 0; i < num_inputs; ++i)
        ports.inputs.push_back(
            read_port(facts, "input_" + std::to_string(i), "input " + std::to_string(i + 1), path));
    if (ports.inputs.empty())
        refuse(path, "num_inputs");
    const int num_outputs = number_of<int>(fact_of(facts, "num_outputs", path), "num_outputs", path);
    for (int i = 0; i < num_outputs; ++i) {
        ports.outputs.push_back(read_port(facts, "output_" + std::to_string(i), "output", path));
        if (ports.outputs[i].axes != ports.outputs[0].axes)
            refuse(path, "output_" + std::to_string(i));
    }
    if (ports.outputs.empty())
        refuse(path, "num_outputs");
    ports.output = side_by_side(ports.outputs);
    ports.is_grid = fact_of(facts, "kind", path) == "grid";
    const std::string halo = fact_of(facts, "halo", path);
    if (halo != "whole field")
        ports.halo = number_of<std::int64_t>(halo, "halo", path);
    return ports;
}

}  // namespace hpcs
