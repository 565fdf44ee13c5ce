#include "archive_code.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

#include "error.h"
#include "hpcsurrogate.h"
#include "operators.h"

namespace hpcs {
namespace {

using Words = std::set<std::string, std::less<>>;

/// The words of operators.txt.
struct Rules {
    Words operators, callables, forbidden, globals;
    std::map<unsigned char, std::string> opcodes;  // of pickles, and what follows each

    static const Rules& get() {
        static const Rules rules{std::istringstream{std::string(OPERATORS_TXT)}};
        return rules;
    }

  private:
    explicit Rules(std::istringstream text) {
        for (std::string line; std::getline(text, line);) {
            std::istringstream words(line);
            std::string kind, word, second;
            if (line.starts_with('#') || !(words >> kind >> word))
                continue;
            words >> second;
            if (kind == "operator")
                operators.insert(word);
            else if (kind == "builtin" || kind == "keyword")
                callables.insert(word);
            else if (kind == "forbidden")
                forbidden.insert(word);
            else if (kind == "global")
                globals.insert(word + "\n" + second);
            else if (kind == "opcode")
                opcodes[static_cast<unsigned char>(std::stoi(word, nullptr, 16))] = second;
        }
    }
};

constexpr std::string_view DIGITS = "0123456789", MARKS = "()[],:=+-*/%<>&|^~!";
constexpr unsigned char STOP = 0x2e, GLOBAL = 0x63;

bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }

bool starts_identifier(char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || letter == '_';
}

bool goes_on(char letter) { return starts_identifier(letter) || is_digit(letter); }

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
    throw Error(HPCS_BAD_MODEL, path + ": " + what + "; do not use this file");
}

/// As it may stand in a message.
std::string quoted(std::string_view text, std::size_t longest = 60) {
    std::string copy = "'";
    for (const char letter : text.substr(0, longest))
        copy += letter >= ' ' && letter <= '~' ? letter : '?';
    return copy + "'";
}

// --- code -----------------------------------------------------------------------------------------------------------

enum class Kind { string, number, name, mark };

struct Token {
    Kind kind;
    std::string_view text;
    std::size_t line;
};

/// Length of the number that `text` starts with, 0 if there is none or if it runs into something else.
std::size_t number_length(std::string_view text) {
    const auto skip_digits = [&](std::size_t from) {
        return std::min(text.find_first_not_of(DIGITS, from), text.size());
    };
    std::size_t end = skip_digits(0);
    if (end < text.size() && text[end] == '.')
        end = skip_digits(end + 1);
    if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
        std::size_t exponent = end + 1;
        if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-'))
            ++exponent;
        if (skip_digits(exponent) == exponent)
            return 0;
        end = skip_digits(exponent);
    }
    return end < text.size() && (goes_on(text[end]) || text[end] == '.') ? 0 : end;
}

/// Length of the string that `text` starts with, quotes included; 0 if it does not end on its line or meets another.
std::size_t string_length(std::string_view text) {
    for (std::size_t i = 1; i < text.size() && text[i] != '\n'; ++i) {
        if (text[i] == '"')
            return i + 1 < text.size() && text[i + 1] == '"' ? 0 : i + 1;
        if (text[i] == '\\' && (++i >= text.size() || text[i] == '\n'))
            return 0;
    }
    return 0;
}

/// Length of the identifiers, joined by dots, that `text` starts with.
std::size_t chain_length(std::string_view text) {
    std::size_t end = 0;
    while (end < text.size() &&
           (goes_on(text[end]) || (text[end] == '.' && end + 1 < text.size() && starts_identifier(text[end + 1]))))
        ++end;
    return end;
}

/// The token that `text` starts with; its length is 0 if it is not understood.
Token next_token(std::string_view text, std::size_t line) {
    const auto token = [&](Kind kind, std::size_t length) { return Token{kind, text.substr(0, length), line}; };
    if (text[0] == '"')
        return token(Kind::string, string_length(text));
    if (is_digit(text[0]))
        return token(Kind::number, number_length(text));
    if (starts_identifier(text[0]))
        return token(Kind::name, chain_length(text));
    return token(Kind::mark, MARKS.find(text[0]) == MARKS.npos ? 0 : 1);
}

std::vector<Token> tokens_of(std::string_view source, const std::string& entry, const std::string& path) {
    std::vector<Token> tokens;
    std::size_t line = 1;
    while (true) {
        while (!source.empty() && (source[0] == ' ' || source[0] == '\n')) {
            line += source[0] == '\n';
            source.remove_prefix(1);
        }
        if (source.empty())
            return tokens;
        const Token token = next_token(source, line);
        if (token.text.empty())
            refuse(path, entry + " line " + std::to_string(line) + ": " +
                             quoted(source.substr(0, std::min<std::size_t>(source.find('\n'), 20))) +
                             " is not understood");
        tokens.push_back(token);
        source.remove_prefix(token.text.size());
    }
}

std::string hexadecimal(unsigned char byte) {
    constexpr const char* digits = "0123456789abcdef";
    return std::string("0x") + digits[byte >> 4] + digits[byte & 15];
}

void refuse_foreign_bytes(std::string_view source, const std::string& entry, const std::string& path) {
    std::size_t line = 1;
    for (const char letter : source) {
        if (letter != '\n' && (letter < ' ' || letter > '~'))
            refuse(path, entry + " line " + std::to_string(line) + ": byte " +
                             hexadecimal(static_cast<unsigned char>(letter)) + " is no printable ASCII");
        line += letter == '\n';
    }
}

bool is_mangled(std::string_view text) {
    constexpr std::string_view start = "___torch_mangle_";
    return text.size() > start.size() && text.starts_with(start) &&
           text.find_first_not_of(DIGITS, start.size()) == text.npos;
}

bool is_constant(std::string_view text) {
    constexpr std::string_view start = "CONSTANTS.c";
    return text.size() > start.size() && text.starts_with(start) &&
           text.find_first_not_of(DIGITS, start.size()) == text.npos;
}

/// Whether `chain` is __torch__.A.B with A, B the archive's own.
bool is_own_chain(std::string_view chain) {
    constexpr std::string_view start = "__torch__.";
    if (!chain.starts_with(start))
        return false;
    chain.remove_prefix(start.size());
    if (chain == "torch" || chain.starts_with("torch."))
        return false;
    while (true) {
        const auto dot = std::min(chain.find('.'), chain.size());
        if (!is_own_name(chain.substr(0, dot)))
            return false;
        if (dot == chain.size())
            return true;
        chain.remove_prefix(dot + 1);
    }
}

bool may_stand(std::string_view name) {
    if (name.find('.') != name.npos)
        return is_own_chain(name) || Rules::get().operators.contains(name) || is_constant(name);
    if (name == "torch" || name == "ops" || name == "CONSTANTS" || Rules::get().forbidden.contains(name))
        return false;
    return !name.starts_with("__") || name == "__parameters__" || name == "__buffers__";
}

/// Whether "(" may stand at `position`.
bool may_be_called(const std::vector<Token>& tokens, std::size_t position) {
    if (position == 0)
        return true;
    const Token& before = tokens[position - 1];
    if (before.kind == Kind::mark)
        return before.text != ")" && before.text != "]";
    if (before.kind != Kind::name)
        return false;
    if (Rules::get().operators.contains(before.text) || Rules::get().callables.contains(before.text))
        return true;
    return position > 1 && (tokens[position - 2].text == "def" || tokens[position - 2].text == "class");
}

bool is_module_class(const std::vector<Token>& tokens, std::size_t name) {
    constexpr std::array<std::string_view, 4> header = {"(", "Module", ")", ":"};
    for (std::size_t i = 0; i < header.size(); ++i)
        if (name + 1 + i >= tokens.size() || tokens[name + 1 + i].text != header[i])
            return false;
    return tokens[name].text.find('.') == std::string_view::npos;
}

void refuse_hooks(const std::vector<Token>& tokens, const std::string& entry, const std::string& path) {
    for (std::size_t i = 1; i < tokens.size(); ++i)
        if (tokens[i - 1].text == "def" && tokens[i].text.starts_with("__"))  // the rule would do; this says more
            refuse(path, entry + ": defines " + std::string(tokens[i].text) +
                             ", which torch may run while it loads the file");
}

// --- pickles --------------------------------------------------------------------------------------------------------

/// Position behind the argument of an opcode; beyond the end of `content` if that is cut off.
std::size_t end_of_argument(std::string_view content, std::size_t start, const std::string& follows) {
    const std::size_t cut_off = content.size() + 1;
    if (follows == "lines2") {
        const auto first = content.find('\n', start);
        const auto second = first == content.npos ? content.npos : content.find('\n', first + 1);
        return second == content.npos ? cut_off : second + 1;
    }
    if (!follows.starts_with("size"))
        return start + std::stoul(follows);
    const std::size_t width = std::stoul(follows.substr(4));
    if (content.size() - start < width)
        return cut_off;
    std::size_t length = 0;
    for (std::size_t i = width; i-- > 0;)
        length = length << 8 | static_cast<unsigned char>(content[start + i]);
    return start + width + length;
}

/// Refuse a type that no closure has; `lines` are the two behind GLOBAL, its module and its name.
void check_type(std::string_view lines, const std::string& place, const std::string& path,
                const std::set<std::string>& classes) {
    lines.remove_suffix(1);
    std::string name(lines);
    name[name.find('\n')] = '.';
    if (!Rules::get().globals.contains(lines) && !classes.contains(name))
        refuse(path, place + quoted(name, 100) + " is none of the types of a closure");
}

}  // namespace

bool is_identifier(std::string_view text) {
    if (text.empty() || !starts_identifier(text[0]))
        return false;
    for (const char letter : text)
        if (!goes_on(letter))
            return false;
    return true;
}

bool is_own_name(std::string_view text) {
    return is_identifier(text) && (!text.starts_with("__") || is_mangled(text));
}

void check_code(std::string_view source, const std::string& entry, const std::string& path,
                std::set<std::string>& classes) {
    refuse_foreign_bytes(source, entry, path);
    std::string module = entry.substr(5, entry.size() - 8);  // without "code/" and ".py"
    for (char& letter : module)
        letter = letter == '/' ? '.' : letter;
    const std::vector<Token> tokens = tokens_of(source, entry, path);
    refuse_hooks(tokens, entry, path);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        const Token& token = tokens[i];
        const std::string place = entry + " line " + std::to_string(token.line) + ": ";
        if (token.kind == Kind::name) {
            if (!may_stand(token.text))
                refuse(path, place + quoted(token.text) + " is none of the operators of a closure");
            if (i > 0 && tokens[i - 1].text == "class") {
                if (!is_module_class(tokens, i))
                    refuse(path, place + "class " + quoted(token.text) + " is no module");
                classes.insert(module + "." + std::string(token.text));
            }
        } else if (token.text == "(" && !may_be_called(tokens, i)) {
            refuse(path, place + quoted(tokens[i - 1].text) + " may not be called");
        }
    }
}

void check_pickle(std::string_view content, const std::string& entry, const std::string& path,
                  const std::set<std::string>& classes) {
    std::size_t position = 0;
    while (position < content.size()) {
        const auto opcode = static_cast<unsigned char>(content[position]);
        const std::string place = entry + " byte " + std::to_string(position) + ": ";
        const auto follows = Rules::get().opcodes.find(opcode);
        if (follows == Rules::get().opcodes.end())
            refuse(path, place + "opcode " + hexadecimal(opcode) + " is none of those a closure needs");
        const std::size_t start = position + 1;
        position = end_of_argument(content, start, follows->second);
        if (position > content.size())
            break;
        if (opcode == GLOBAL)
            check_type(content.substr(start, position - start), place, path, classes);
        if (opcode == STOP && position == content.size())
            return;
        if (opcode == STOP)
            break;
    }
    refuse(path, entry + ": is cut off or goes on behind its end");
}

}  // namespace hpcs
