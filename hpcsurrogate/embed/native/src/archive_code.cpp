#include "archive_code.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "archive_rules.h"

namespace hpcs {
namespace {

constexpr std::string_view DIGITS = "0123456789", MARKS = "()[],:=-";

bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }

bool starts_identifier(char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || letter == '_';
}

bool goes_on(char letter) { return starts_identifier(letter) || is_digit(letter); }

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
    if (text.starts_with("->"))
        return token(Kind::mark, 2);
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
            refuse_code(path, entry + " line " + std::to_string(line) + ": " +
                             quoted(source.substr(0, std::min<std::size_t>(source.find('\n'), 20))) +
                             " is not understood");
        tokens.push_back(token);
        source.remove_prefix(token.text.size());
    }
}

void check_text(std::string_view source, const std::string& entry, const std::string& path) {
    std::size_t line = 1;
    for (const char letter : source) {
        if (letter != '\n' && (letter < ' ' || letter > '~'))
            refuse_code(path, entry + " line " + std::to_string(line) + ": byte " +
                             hexadecimal(static_cast<unsigned char>(letter)) + " is no printable ASCII");
        line += letter == '\n';
    }
    if (source.find(std::string(Rules::get().limits.at("spaces") + 1, ' ')) != source.npos)
        refuse_code(path, entry + ": holds more spaces in a row than an export writes");
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
    if (name.size() > Rules::get().limits.at("name"))
        return false;
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

/// Whether the name at `position` is no condition within an expression, and no argument by a name that torch might write
/// to.
bool is_well_placed(const std::vector<Token>& tokens, std::size_t position, std::size_t depth) {
    const Token& name = tokens[position];
    if (name.text == "if" || name.text == "else")
        return depth == 0 && (position == 0 || tokens[position - 1].line != name.line);
    const auto is = [&](std::size_t i, std::string_view text) { return i < tokens.size() && tokens[i].text == text; };
    const bool is_argument =
        depth > 0 && (is(position - 1, "(") || is(position - 1, ",")) && is(position + 1, "=");
    return !is_argument || Rules::get().arguments.contains(name.text);
}

/// Whether a mark that is no "(" may stand at `position`.
bool may_be_marked(const std::vector<Token>& tokens, std::size_t position) {
    const std::string_view mark = tokens[position].text, before = position > 0 ? tokens[position - 1].text : ",";
    if (mark == "-") {
        const bool is_number = position + 1 < tokens.size() &&
                               (tokens[position + 1].kind == Kind::number || tokens[position + 1].text == "inf" ||
                                tokens[position + 1].text == "nan");
        return is_number && before.size() == 1 && std::string_view("([,:=").find(before) != before.npos;
    }
    return !(before == "]" && mark == "[") && !(before == "=" && mark == "=");
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
            refuse_code(path, entry + ": defines " + std::string(tokens[i].text) +
                             ", which torch may run while it loads the file");
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
    check_text(source, entry, path);
    std::string module = entry.substr(5, entry.size() - 8);  // without "code/" and ".py"
    for (char& letter : module)
        letter = letter == '/' ? '.' : letter;
    const std::vector<Token> tokens = tokens_of(source, entry, path);
    refuse_hooks(tokens, entry, path);
    std::size_t depth = 0;  // of brackets; that of a closing one too many is huge
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        const Token& token = tokens[i];
        const std::string place = entry + " line " + std::to_string(token.line) + ": ";
        if (token.kind == Kind::name) {
            if (!may_stand(token.text))
                refuse_code(path, place + quoted(token.text) + " is none of the operators of a closure");
            if (!is_well_placed(tokens, i, depth))
                refuse_code(path, place + quoted(token.text) + " may not stand here");
            if (i > 0 && tokens[i - 1].text == "class") {
                if (!is_module_class(tokens, i))
                    refuse_code(path, place + "class " + quoted(token.text) + " is no module");
                classes.insert(module + "." + std::string(token.text));
            }
        } else if (token.kind == Kind::mark) {
            if (token.text == "(" || token.text == "[")
                ++depth;
            if (token.text == ")" || token.text == "]")
                --depth;
            if (depth > Rules::get().limits.at("depth"))
                refuse_code(path, place + "brackets are nested too deep or not opened");
            if (token.text == "(" && !may_be_called(tokens, i))
                refuse_code(path, place + quoted(tokens[i - 1].text) + " may not be called");
            if (token.text != "(" && !may_be_marked(tokens, i))
                refuse_code(path, place + quoted(token.text) + " may not stand here");
        }
    }
}

}  // namespace hpcs
