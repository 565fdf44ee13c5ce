// A TorchScript archive as a Network.
#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <caffe2/serialize/in_memory_adapter.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <stdexcept>

#include "archive_check.h"
#include "hpcsurrogate.h"
#include "network.h"

namespace hpcs {
namespace {

constexpr const char* METADATA_ENTRY = "hpcsurrogate.json";

class TorchScriptNetwork final : public Network {
  public:
    explicit TorchScriptNetwork(const torch::jit::Module& module)
        : forward_(module.get_method("forward")), guarded_(module.get_method("guarded")) {}

    at::Tensor forward(const std::vector<at::Tensor>& inputs) override {
        return call(forward_, std::vector<c10::IValue>(inputs.begin(), inputs.end())).toTensor();
    }

    std::pair<at::Tensor, at::Tensor> guarded(const std::vector<at::Tensor>& inputs, std::int64_t halo) override {
        std::vector<c10::IValue> arguments(inputs.begin(), inputs.end());
        if (halo != 0)
            arguments.emplace_back(halo);
        const auto results = call(guarded_, std::move(arguments)).toTuple();
        const auto& pair = results->elements();
        if (pair.size() != 2)
            throw std::runtime_error("its guard returns no output with counts");
        return {pair[0].toTensor(), pair[1].toTensor().cpu()};
    }

  private:
    torch::jit::Method forward_, guarded_;  // they own the module

    static c10::IValue call(const torch::jit::Method& method, std::vector<c10::IValue> arguments) {
        // Frozen code is run as it is: torch's optimiser would profile the first calls and compile the next, so that
        // calls of a running solver would differ in time and, with fused operations, in the last bits.
        const torch::jit::GraphOptimizerEnabledGuard as_it_is(false);
        return method(std::move(arguments));
    }
};

void require_parts(const torch::jit::Module& module, const std::string& path) {
    const auto require = [&](bool is_there, const std::string& name) {
        if (!is_there)
            throw Error(HPCS_BAD_MODEL, path + ": has no `" + name + "`; export it with `hpcsurrogate export`");
    };
    for (const char* name : {"guarded", "classical"})
        require(module.find_method(name).has_value(), name);
    for (const char* name : {"facts", "golden"})
        require(module.hasattr(name), name);
}

/// Read what export left as attributes of the module, so that no host parses JSON.
void read_attributes(const torch::jit::Module& module, Network& network) {
    for (const auto& fact : module.attr("facts").toGenericDict())
        network.facts.emplace(fact.key().toStringRef(), fact.value().toStringRef());
    network.golden_inputs = module.attr("golden").toTensorVector();
    if (!network.golden_inputs.empty()) {
        network.golden_output = network.golden_inputs.back();
        network.golden_inputs.pop_back();
    }
}

}  // namespace

std::shared_ptr<Network> load_torchscript(const std::string& content, const std::string& path, at::Device device) {
    check_archive(content, path);
    torch::jit::ExtraFilesMap extra_files{{METADATA_ENTRY, ""}};
    auto reader = std::make_shared<caffe2::serialize::MemoryReadAdapter>(content.data(), content.size());
    const auto module = torch::jit::load(std::move(reader), device, extra_files);
    require_parts(module, path);
    auto network = std::make_shared<TorchScriptNetwork>(module);
    network->metadata = extra_files[METADATA_ENTRY];
    read_attributes(module, *network);
    return network;
}

}  // namespace hpcs
