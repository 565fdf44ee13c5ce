// The file of an artifact and the checksum beside it.
#pragma once

#include <string>

namespace hpcs {

/// The bytes of the file, whose SHA-256 is the one that `<path>.sha256` promises. It is read once, so that what is
/// checked is what is loaded.
///
/// Throws Error with HPCS_BAD_MODEL if one of the two is missing or the checksum is another.
std::string read_checked(const std::string& path);

}  // namespace hpcs
