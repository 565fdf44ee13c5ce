// What stands in an archive, found out before torch loads it. The rule stands in words at the head of operators.txt;
// embed/archive.py is the same in Python.
#pragma once

#include <string>

namespace hpcs {

/// Throw Error with HPCS_BAD_MODEL unless `content` is an archive that holds what an exported closure needs and nothing
/// else: known entries that are what was sealed, code that calls pure tensor operators alone, pickles that make
/// tensors within their storage, numbers, texts, containers and the archive's own classes
/// (tests/hosts/test_native_loader.py).
/// `path` is for messages.
void check_archive(const std::string& content, const std::string& path);

}  // namespace hpcs
