// What an artifact takes and returns, read from its facts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "network.h"

namespace hpcs {

/// One input or output.
struct Port {
    std::string name;  // for messages: input 1 (velocity)
    std::string field, unit, layout;
    std::string axes;  // one letter an axis: b batch, n cell, c component, x, y, z
    std::int64_t num_components;
};

struct Ports {
    std::vector<Port> inputs;
    std::vector<Port> outputs;
    Port output;  // of several outputs the one array that holds their components side by side
    bool is_grid;
    std::optional<std::int64_t> halo;  // nothing if the network needs the whole field
};

/// Throws Error with HPCS_BAD_MODEL if a fact is missing or makes no sense.
Ports read_ports(const Facts& facts, const std::string& path);

/// The numbers of a fact, which stand between spaces. Throws Error with HPCS_BAD_MODEL if there are none.
std::vector<double> numbers_of(const Facts& facts, const std::string& key, const std::string& path);

std::vector<std::string> words_of(std::string_view text, char separator = ' ');

}  // namespace hpcs
