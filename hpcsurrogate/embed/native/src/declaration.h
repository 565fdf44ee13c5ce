// What a host declares about itself, held against what the artifact was made for.
#pragma once

#include <string>

#include "hpcsurrogate.h"
#include "network.h"
#include "ports.h"

namespace hpcs {

/// Throws Error with HPCS_MISFIT unless the artifact is for this host (tests/hosts/test_native_open.py).
void require_fit(const Facts& facts, const Ports& ports, const hpcs_options& options, const std::string& path);

/// Throws Error with HPCS_BAD_ARGUMENT unless each option is one that there is. Of options of another size it reads
/// nothing but that.
void require_sound(const hpcs_options& options);

}  // namespace hpcs
