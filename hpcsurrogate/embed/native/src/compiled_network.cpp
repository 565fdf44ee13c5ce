// A closure that AOTInductor compiled for one kind of processor, a `.pt2` package, as a Network. The same format as in
// embed/compiled.py, whose names these are.
#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <caffe2/serialize/in_memory_adapter.h>
#include <caffe2/serialize/inline_container.h>
#include <sys/utsname.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "hpcsurrogate.h"
#include "network.h"

namespace hpcs {
namespace {

using caffe2::serialize::PyTorchStreamReader;

constexpr std::int64_t FORWARD = 0, GUARDED = 1;  // what the one compiled function does
constexpr std::int64_t SMALLEST_GRID = 8;         // compiled code trusts the sizes that it is given
constexpr std::size_t SIMULTANEOUS_CALLS = 8;     // more threads wait for each other

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
    throw Error(HPCS_BAD_MODEL, path + ": " + reason);
}

/// A folder of this user's own, gone at the end of the block.
class PrivateFolder {
  public:
    PrivateFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "hpcsurrogate-XXXXXX").string();
        if (mkdtemp(name.data()) == nullptr)
            throw std::runtime_error("no folder can be made in " + std::filesystem::temp_directory_path().string());
        path_ = name;
    }
    ~PrivateFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    PrivateFolder(const PrivateFolder&) = delete;
    PrivateFolder& operator=(const PrivateFolder&) = delete;
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

class CompiledNetwork final : public Network {
  public:
    explicit CompiledNetwork(const std::string& package)
        : loader_(package, "model", /*run_single_threaded=*/false, SIMULTANEOUS_CALLS, /*device_index=*/-1) {}

    at::Tensor forward(const std::vector<at::Tensor>& inputs) override { return run(inputs, FORWARD, 0)[0]; }

    std::pair<at::Tensor, at::Tensor> guarded(const std::vector<at::Tensor>& inputs, std::int64_t halo) override {
        const auto results = run(inputs, GUARDED, halo);
        return {results[0], results[1]};
    }

  private:
    torch::inductor::AOTIModelPackageLoader loader_;

    std::vector<at::Tensor> run(const std::vector<at::Tensor>& inputs, std::int64_t task, std::int64_t halo) {
        if (inputs.at(0).numel() == 0) {
            std::vector<std::int64_t> shape = golden_output.sizes().vec();
            shape[0] = 0;
            return {at::empty(shape, golden_output.options()), at::zeros({3}, at::kLong)};
        }
        std::vector<at::Tensor> arguments;
        for (const at::Tensor& input : inputs) {
            require_size(input);
            arguments.push_back(input.contiguous());  // it would read another stride as this one
        }
        arguments.push_back(at::scalar_tensor(task, at::kLong));
        arguments.push_back(at::scalar_tensor(halo, at::kLong));
        return loader_.boxed_run(std::move(arguments));
    }

    static void require_size(const at::Tensor& input) {
        for (std::int64_t axis = 2; axis < input.dim(); ++axis)
            if (input.size(axis) < SMALLEST_GRID)
                throw Error(HPCS_BAD_ARGUMENT, "a compiled closure takes grids of at least " +
                                                   std::to_string(SMALLEST_GRID) + " cells along each axis, got " +
                                                   std::to_string(input.size(axis)) + "; take the .pt file");
    }
};

std::string entry(PyTorchStreamReader& reader, const std::string& name) {
    const auto [data, size] = reader.getRecord("extra/" + name);
    return {static_cast<const char*>(data.get()), size};
}

/// The code runs without another look: on a processor that lacks its instructions the host would die by a signal.
void require_target(const std::string& target, const std::string& path) {
    std::istringstream words(target);
    std::string machine, instructions;
    words >> machine >> instructions;
    utsname here{};
    uname(&here);
    const std::string available = at::get_cpu_capability();
    const bool has_instructions = instructions == "any" || available.starts_with("AVX");
    if (machine != here.machine || !has_instructions)
        refuse(path, "is compiled for " + machine + " processors with " + instructions + " instructions, this one is " +
                         here.machine + " with " + available + "; take the .pt file, which runs on all");
}

Facts read_facts(const std::string& table) {
    Facts facts;
    std::istringstream lines(table);
    for (std::string line; std::getline(lines, line);) {
        const auto tab = line.find('\t');
        if (tab != std::string::npos)
            facts.emplace(line.substr(0, tab), line.substr(tab + 1));
    }
    return facts;
}

/// A golden vector; `line` names its type and shape, such as `float32 1 2 64 64`.
at::Tensor read_golden(const std::string& line, std::string values, const std::string& path) {
    std::istringstream words(line);
    std::string type;
    words >> type;
    std::vector<std::int64_t> shape;
    for (std::int64_t size = 0; words >> size;)
        shape.push_back(size);
    const auto options = at::TensorOptions(type == "float64" ? at::kDouble : at::kFloat);
    const at::Tensor golden = at::empty(shape, options);
    if (golden.nbytes() != values.size())
        refuse(path, "a golden vector is not as long as its shape says; export the model again");
    return golden.copy_(at::from_blob(values.data(), shape, options));
}

}  // namespace

std::shared_ptr<Network> load_compiled(const std::string& content, const std::string& path, at::Device device) {
    if (!device.is_cpu())
        refuse(path, "is compiled for a CPU; take the .pt file, which runs on other devices too");
    PyTorchStreamReader reader(std::make_shared<caffe2::serialize::MemoryReadAdapter>(content.data(), content.size()));
    require_target(entry(reader, "target.txt"), path);
    const PrivateFolder folder;
    const auto package = folder.path() / "model.pt2";
    std::ofstream(package, std::ios::binary) << content;
    auto network = std::make_shared<CompiledNetwork>(package.string());
    network->metadata = entry(reader, "hpcsurrogate.json");
    network->facts = read_facts(entry(reader, "facts.txt"));
    std::istringstream table(entry(reader, "golden.txt"));
    auto& golden = network->golden_inputs;
    for (std::string line; std::getline(table, line);)
        golden.push_back(read_golden(line, entry(reader, "golden_" + std::to_string(golden.size())), path));
    if (!golden.empty()) {
        network->golden_output = golden.back();
        golden.pop_back();
    }
    return network;
}

}  // namespace hpcs
