#include "settings.h"

#include <fstream>
#include <map>
#include <stdexcept>

namespace les {

Settings read_settings(const std::string& path) {
    std::ifstream file(path);
    std::map<std::string, std::string> values;
    for (std::string key, value; file >> key && std::getline(file >> std::ws, value);)
        values[key] = value;
    const auto text = [&](const char* key) {
        const auto found = values.find(key);
        if (found == values.end())
            throw std::runtime_error(path + ": " + key + " is missing");
        return found->second;
    };
    const auto number = [&](const char* key) { return std::stod(text(key)); };
    return {std::stoi(text("nx")), std::stoi(text("ny")), std::stoi(text("num_steps")),
            number("length_x"),    number("length_y"),    number("viscosity"),
            number("drag"),        number("time_step"),   text("closure"),
            number("constant"),    number("filter_width"), text("model"),
            text("velocity"),      text("force"),          text("output")};
}

}  // namespace les
