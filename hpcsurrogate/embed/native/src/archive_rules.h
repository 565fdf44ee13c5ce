// The words of operators.txt, and how what breaks them is refused.
#pragma once

#include <cstddef>
#include <functional>
#include <iosfwd>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace hpcs {

struct Rules {
    using Words = std::set<std::string, std::less<>>;
    using Sizes = std::map<std::string, std::size_t, std::less<>>;

    Words operators, callables, forbidden, arguments, globals;
    Sizes limits, storages;                        // of these the bytes of an element
    std::map<unsigned char, std::string> opcodes;  // of pickles, and what follows each

    static const Rules& get();

  private:
    explicit Rules(std::istream& text);
};

/// Throws Error with HPCS_BAD_MODEL.
[[noreturn]] void refuse_code(const std::string& path, const std::string& what);

/// As it may stand in a message.
std::string quoted(std::string_view text, std::size_t longest = 60);

/// 0x0a
std::string hexadecimal(unsigned char byte);

}  // namespace hpcs
