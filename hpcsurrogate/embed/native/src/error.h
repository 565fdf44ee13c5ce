// How a failure walks from where it is found to the C ABI.
#pragma once

#include <stdexcept>
#include <string>

namespace hpcs {

/// What went wrong in one line, and the status (hpcsurrogate.h) that the host gets for it.
class Error : public std::runtime_error {
  public:
    int status;
    Error(int status_of_it, const std::string& message) : std::runtime_error(message), status(status_of_it) {}
};

}  // namespace hpcs
