// SHA-256 (FIPS 180-4), so that a host needs no cryptographic library to know a damaged file.
#pragma once

#include <string>
#include <string_view>

namespace hpcs {

/// The SHA-256 of `content` in hexadecimal, as `sha256sum` prints it (tests/hosts/test_native_loader.py).
std::string sha256(std::string_view content);

}  // namespace hpcs
