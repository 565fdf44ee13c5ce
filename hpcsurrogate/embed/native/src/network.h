// A checked artifact as the C ABI sees it, whatever the form of the file.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "error.h"

namespace hpcs {

/// What a host needs to know of an artifact, as `ArtifactMetadata.facts` gives it.
using Facts = std::map<std::string, std::string>;

/// An artifact that passed every check. Threads may call one network at the same time.
struct Network {
    virtual ~Network() = default;

    /// The network alone. Inputs in the type and on the device of `golden_inputs`.
    virtual at::Tensor forward(const std::vector<at::Tensor>& inputs) = 0;

    /// Output of the shape of the input and finite for any input; and how many cells fell back, int64 (3,) on the CPU:
    /// outside the trained range, input not finite, output not finite. `halo` cells of its surroundings lie around a
    /// block of a larger field on all sides, which are not counted; 0: the field is whole and periodic, or cells.
    virtual std::pair<at::Tensor, at::Tensor> guarded(const std::vector<at::Tensor>& inputs, std::int64_t halo) = 0;

    Facts facts;
    std::string metadata;                   // hpcsurrogate.json
    std::vector<at::Tensor> golden_inputs;  // on the device of the network, as golden_output
    at::Tensor golden_output;
};

/// Load an artifact after every check but those against what the host declares.
///
/// In this order: its SHA-256 against the manifest beside it, the entries and the code of the archive, its metadata,
/// and its golden vectors, which the network must reproduce on `device`.
///
/// Throws Error with HPCS_BAD_MODEL (tests/hosts/test_native_loader.py).
std::shared_ptr<Network> load_network(const std::string& path, at::Device device, bool allow_compiled);

/// The two forms of a file, from its checked bytes; `path` is for messages.
std::shared_ptr<Network> load_torchscript(const std::string& content, const std::string& path, at::Device device);
std::shared_ptr<Network> load_compiled(const std::string& content, const std::string& path, at::Device device);

}  // namespace hpcs
