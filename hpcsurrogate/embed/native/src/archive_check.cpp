#include "archive_check.h"

#include <caffe2/serialize/in_memory_adapter.h>
#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string_view>
#include <vector>

#include "archive_code.h"
#include "archive_pickle.h"
#include "archive_rules.h"
#include "error.h"
#include "hpcsurrogate.h"
#include "sha256.h"

namespace hpcs {
namespace {

constexpr const char* SEAL = "extra/content.sha256";
constexpr std::size_t BEFORE_NAME = 66;  // of a line of the seal: a SHA-256 and two spaces

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
    throw Error(HPCS_BAD_MODEL, path + ": " + reason + "; do not use this file; export the model again");
}

bool is_number(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// Whether `name` is code/__torch__.py or code/__torch__/A/B.py.
bool is_code(std::string_view name) {
    constexpr std::string_view start = "code/__torch__", end = ".py";
    if (!name.starts_with(start) || !name.ends_with(end) || name.size() < start.size() + end.size())
        return false;
    name = name.substr(start.size(), name.size() - start.size() - end.size());
    while (!name.empty()) {
        const auto next = std::min(name.find('/', 1), name.size());
        if (name[0] != '/' || !is_own_name(name.substr(1, next - 1)))
            return false;
        name.remove_prefix(next);
    }
    return true;
}

bool is_known(std::string_view name) {
    for (const char* known : {"data.pkl", "constants.pkl", "version", "byteorder", "extra/hpcsurrogate.json",
                              "extra/weights.safetensors", SEAL})
        if (name == known)
            return true;
    for (const std::string_view folder : {"data/", "constants/"})
        if (name.starts_with(folder))
            return is_number(name.substr(folder.size()));
    return is_code(name);
}

/// The name as it may stand in a message.
std::string shown(const std::string& name) {
    std::string text;
    for (const unsigned char letter : name.substr(0, 100))
        text += letter >= ' ' && letter <= '~' ? static_cast<char>(letter) : '?';
    return text;
}

void check_names(caffe2::serialize::PyTorchStreamReader& reader, const std::vector<std::string>& names,
                 std::size_t room, const std::string& path) {
    std::set<std::string> seen;
    for (const std::string& name : names) {
        if (!is_known(name))
            refuse(path, "entry '" + shown(name) + "' is none that an exported closure has");
        std::string lower = name;  // torch looks names up without regard to case
        for (char& letter : lower)
            letter = letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
        if (!seen.insert(lower).second)
            refuse(path, "entry '" + name + "' is there twice");
    }
    std::size_t total = 0;
    for (const std::string& name : names)  // what they claim may be more than a number can hold
        total += std::min(reader.getRecordSize(name), std::numeric_limits<std::size_t>::max() - total);
    if (total > room)
        refuse(path, "its entries claim " + std::to_string(total) + " bytes, the file has " + std::to_string(room));
}

/// All entries, read with the very reader that torch::jit::load uses: no other can see another file than torch does.
Entries read_entries(const std::string& content, const std::string& path) {
    // torch would take a file with "PTMF" at byte 4 for its other format.
    if (!content.starts_with("PK\x03\x04") || content.compare(4, 4, "PTMF") == 0)
        refuse(path, "is no TorchScript archive");
    try {
        caffe2::serialize::PyTorchStreamReader reader(
            std::make_shared<caffe2::serialize::MemoryReadAdapter>(content.data(), content.size()));
        const std::vector<std::string> names = reader.getAllRecords();
        check_names(reader, names, content.size(), path);
        Entries entries;
        for (const std::string& name : names) {
            const auto [data, size] = reader.getRecord(name);
            entries[name].assign(static_cast<const char*>(data.get()), size);
        }
        return entries;
    } catch (const c10::Error& error) {
        const std::string reason = error.what_without_backtrace();
        const auto end = std::min({reason.find('\n'), reason.find(". "), std::size_t{200}});
        refuse(path, "is no TorchScript archive (" + reason.substr(0, end) + ")");
    }
}

std::set<std::string> lines_of(const std::string& text) {
    std::set<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);)
        lines.insert(line);
    return lines;
}

void check_seal(const Entries& entries, const std::string& path) {
    const auto seal = entries.find(SEAL);
    if (seal == entries.end())
        refuse(path, "holds no content.sha256, the checksums of its entries");
    std::string found;  // as `sha256sum` writes it; entries are in the order of their names
    for (const auto& [name, content] : entries)
        if (name != SEAL)
            found += sha256(content) + "  " + name + "\n";
    if (seal->second == found)
        return;
    const std::set<std::string> promised = lines_of(seal->second), measured = lines_of(found);
    std::set<std::string> differing;
    std::set_symmetric_difference(promised.begin(), promised.end(), measured.begin(), measured.end(),
                                  std::inserter(differing, differing.end()));
    std::set<std::string> names;
    for (const std::string& line : differing)
        names.insert(line.substr(std::min(BEFORE_NAME, line.size())));
    refuse(path, (names.empty() ? "content.sha256" : shown(*names.begin())) + " was changed after the export");
}

}  // namespace

void check_archive(const std::string& content, const std::string& path) {
    const Entries entries = read_entries(content, path);
    check_seal(entries, path);
    std::set<std::string> classes;
    for (const auto& [name, text] : entries) {
        if ((is_code(name) || name.ends_with(".pkl")) && text.size() > Rules::get().limits.at("bytes"))
            refuse(path, name + " is larger than that of a closure");
        if (is_code(name))
            check_code(text, name, path, classes);
    }
    for (const char* name : {"data.pkl", "constants.pkl"})
        if (entries.contains(name))
            check_pickle(entries, name, path, classes);
}

}  // namespace hpcs
