// The order of the checks, and those that hold for every form of a file.
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/max.h>
#include <ATen/ops/sub.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <new>

#include "artifact_file.h"
#include "hpcsurrogate.h"
#include "network.h"
#include "ports.h"

namespace hpcs {
namespace {

constexpr const char* SCHEMA_VERSION = "2";

// As in embed/artifact.py: what another processor, or TF32 on a CUDA device, may change.
constexpr double GOLDEN_TOLERANCE = 1e-5, GOLDEN_TOLERANCE_FLOAT64 = 1e-12, GOLDEN_TOLERANCE_CUDA = 1e-2;

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
    throw Error(HPCS_BAD_MODEL, path + ": " + reason);
}

/// With the first line of `text` that says something: torch adds the frames of its interpreter below.
[[noreturn]] void refuse_to_load(const std::string& path, const std::string& text) {
    const auto start = std::min(text.find_first_not_of(" \n"), text.size());
    const std::string reason = text.substr(start, text.find('\n', start) - start);
    refuse(path, "torch cannot load it (" + reason + "); export the model again");
}

double golden_tolerance(const at::Tensor& golden_output) {
    if (golden_output.is_cuda())
        return GOLDEN_TOLERANCE_CUDA;
    return golden_output.scalar_type() == at::kDouble ? GOLDEN_TOLERANCE_FLOAT64 : GOLDEN_TOLERANCE;
}

std::string fact_of(const Network& network, const std::string& key) {
    const auto fact = network.facts.find(key);
    return fact == network.facts.end() ? "missing" : fact->second;
}

void require_metadata(const Network& network, const std::string& path) {
    if (network.metadata.empty())
        refuse(path, "holds no hpcsurrogate.json; export it with `hpcsurrogate export`");
    if (const std::string schema = fact_of(network, "schema_version"); schema != SCHEMA_VERSION)
        refuse(path, std::string("metadata: schema_version should be ") + SCHEMA_VERSION + " and is " + schema +
                         "; export the model again");
    const std::string inputs = std::to_string(network.golden_inputs.size());
    if (inputs != fact_of(network, "num_inputs") || !network.golden_output.defined())
        refuse(path, "holds golden vectors of " + inputs + " inputs, not of " + fact_of(network, "num_inputs") +
                         "; export the model again");
    std::vector<at::Tensor> golden = network.golden_inputs;
    golden.push_back(network.golden_output);
    const at::ScalarType dtype = fact_of(network, "dtype") == "float64" ? at::kDouble : at::kFloat;
    for (const at::Tensor& tensor : golden)
        if (tensor.scalar_type() != dtype)
            refuse(path, c10::str("a golden vector is ", tensor.scalar_type(), ", the metadata say ",
                                  fact_of(network, "dtype"), "; export the model again"));
}

double relative_difference(const at::Tensor& output, const at::Tensor& expected) {
    return at::max(at::abs(at::sub(output, expected))).item<double>() / at::max(at::abs(expected)).item<double>();
}

/// Of the fields of the output the worst, since one may be small beside another; not a number if one is not.
double worst_difference(const at::Tensor& output, const at::Tensor& expected, const std::vector<Port>& fields) {
    if (fields.size() == 1)
        return relative_difference(output, expected);
    double worst = 0;
    std::int64_t column = 0;
    for (const Port& field : fields) {
        const std::int64_t width = field.num_components;
        const double difference = relative_difference(output.narrow(1, column, width), expected.narrow(1, column, width));
        if (!(difference <= worst))
            worst = difference;
        if (std::isnan(worst))
            return worst;
        column += width;
    }
    return worst;
}

void require_golden(Network& network, const std::string& path) {
    const at::NoGradGuard no_gradients;
    const at::Tensor& expected = network.golden_output;
    const at::Tensor output = network.forward(network.golden_inputs);
    if (output.sizes() != expected.sizes())
        refuse(path, c10::str("returns shape ", output.sizes(), " for its golden input, not ", expected.sizes(),
                              "; export the model again"));
    const double difference = worst_difference(output, expected, read_ports(network.facts, path).outputs);
    const auto [guarded, counts] = network.guarded(network.golden_inputs, 0);
    if (guarded.sizes() != expected.sizes() || counts.scalar_type() != at::kLong || counts.dim() != 1 ||
        counts.size(0) != 3)
        refuse(path, "its guard returns no output with three counts; export the model again");
    if (!(difference <= golden_tolerance(expected)))
        refuse(path, c10::str("does not reproduce its golden output (relative difference ", difference, ", allowed ",
                              golden_tolerance(expected), "); export the model again"));
}

}  // namespace

std::shared_ptr<Network> load_network(const std::string& path, at::Device device, bool allow_compiled) {
    const bool is_compiled = path.ends_with(".pt2");
    if (is_compiled && !allow_compiled)
        refuse(path, "is native code, which runs with all the rights of the host; load it with allow_compiled if you "
                     "trust where it comes from, or take the .pt file");
    const std::string content = read_checked(path);
    try {
        auto network =
            is_compiled ? load_compiled(content, path, device) : load_torchscript(content, path, device);
        require_metadata(*network, path);
        require_golden(*network, path);
        return network;
    } catch (const Error&) {
        throw;
    } catch (const c10::OutOfMemoryError&) {
        throw;
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const c10::Error& error) {
        refuse_to_load(path, error.what_without_backtrace());
    } catch (const std::exception& error) {
        refuse_to_load(path, error.what());
    }
}

}  // namespace hpcs
