// The code of an archive, held against the list of what an exported closure may do. The rule stands in words at the head
// of operators.txt; embed/archive_code.py is the same in Python.
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace hpcs {

/// [A-Za-z_][A-Za-z0-9_]*
bool is_identifier(std::string_view text);

/// A part of a name that is the archive's own: an identifier without a leading "__", or "___torch_mangle_N".
bool is_own_name(std::string_view text);

/// Add the classes that `source` defines, such as "__torch__.closure.Closure", to `classes`.
///
/// Throws Error with HPCS_BAD_MODEL if it does anything but call listed operators on values.
void check_code(std::string_view source, const std::string& entry, const std::string& path,
                std::set<std::string>& classes);

}  // namespace hpcs
