#include "archive_rules.h"

#include <sstream>

#include "error.h"
#include "hpcsurrogate.h"
#include "operators.h"

namespace hpcs {

const Rules& Rules::get() {
    static const Rules rules = [] {
        std::istringstream text{std::string(OPERATORS_TXT)};
        return Rules(text);
    }();
    return rules;
}

Rules::Rules(std::istream& text) {
    const std::map<std::string, Words*> lists = {{"operator", &operators},   {"builtin", &callables},
                                                 {"keyword", &callables},    {"forbidden", &forbidden},
                                                 {"argument", &arguments}};
    for (std::string line; std::getline(text, line);) {
        std::istringstream words(line);
        std::string kind, word, second;
        if (line.starts_with('#') || !(words >> kind >> word))
            continue;
        words >> second;
        if (const auto list = lists.find(kind); list != lists.end())
            list->second->insert(word);
        else if (kind == "global")
            globals.insert(word + "." + second);
        else if (kind == "limit")
            limits[word] = std::stoul(second);
        else if (kind == "storage")
            storages["torch." + word] = std::stoul(second);
        else if (kind == "opcode")
            opcodes[static_cast<unsigned char>(std::stoi(word, nullptr, 16))] = second;
    }
}

void refuse_code(const std::string& path, const std::string& what) {
    throw Error(HPCS_BAD_MODEL, path + ": " + what + "; do not use this file");
}

std::string quoted(std::string_view text, std::size_t longest) {
    std::string copy = "'";
    for (const char letter : text.substr(0, longest))
        copy += letter >= ' ' && letter <= '~' ? letter : '?';
    return copy + "'";
}

std::string hexadecimal(unsigned char byte) {
    constexpr const char* digits = "0123456789abcdef";
    return std::string("0x") + digits[byte >> 4] + digits[byte & 15];
}

}  // namespace hpcs
