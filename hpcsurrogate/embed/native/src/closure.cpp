#include "closure.h"

#include <ATen/Context.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/isfinite.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "declaration.h"

namespace hpcs {
namespace {

constexpr std::int64_t CELLS_AT_ONCE = 8192;  // so that what lies between two layers stays in the cache

at::Device device_of(const hpcs_options& options) {
    if (options.device == HPCS_CPU)
        return at::Device(at::kCPU);
    if (!at::hasCUDA())
        throw Error(HPCS_MISFIT, "options.device is HPCS_CUDA, but this LibTorch finds no CUDA device; "
                                 "install a CUDA build of torch or take HPCS_CPU");
    return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(options.device_index));
}

/// Indices of a periodic axis with `around` more at either end.
at::Tensor wrapped(std::int64_t size, std::int64_t around, const at::TensorOptions& options) {
    return at::arange(-around, size + around, options).remainder(size);
}

/// Try what the guard promises, on golden inputs and on nothing but NaN: at the start, not in the middle of a run.
void require_guard(Network& network, const std::string& path) {
    const c10::InferenceMode no_gradients;
    network.guarded(network.golden_inputs, 0);
    std::vector<at::Tensor> broken;
    for (const at::Tensor& input : network.golden_inputs)
        broken.push_back(at::full_like(input, std::numeric_limits<double>::quiet_NaN()));
    const at::Tensor output = network.guarded(broken, 0).first;
    if (output.sizes() != network.golden_output.sizes() || !at::isfinite(output).all().item<bool>())
        throw Error(HPCS_BAD_MODEL, path + ": its guard lets through what is not finite; export the model again");
}

/// Of `guarded`: add how many cells fell back, and why. A file may say what it likes.
void count(const at::Tensor& fallen, hpcs_counts& counts) {
    if (fallen.scalar_type() != at::kLong || fallen.dim() != 1 || fallen.size(0) != 3)
        throw Error(HPCS_INTERNAL, "the guard of the artifact returns no three counts; export the model again");
    const auto number = fallen.accessor<std::int64_t, 1>();
    counts.outside += number[0], counts.not_finite += number[1], counts.failed += number[2];
}

/// Or copying it into the host's array would repeat it along an axis.
void require_same_shape(const at::Tensor& result, const at::Tensor& target) {
    if (result.sizes() != target.sizes())
        throw Error(HPCS_INTERNAL, c10::str("the network returns shape ", result.sizes(), " for an output of shape ",
                                            target.sizes(), "; export the model again"));
}

}  // namespace

Closure::Closure(const std::string& path, const hpcs_options& options)
    : network_(load_network(path, device_of(options), options.allow_compiled != 0)),
      ports_(read_ports(network_->facts, path)),
      device_(device_of(options)),
      dtype_(network_->golden_output.scalar_type()),
      halo_{options.halo[0], options.halo[1], options.halo[2]},
      is_block_(std::any_of(halo_.begin(), halo_.end(), [](std::int64_t cells) { return cells > 0; })),
      unguarded_(options.unguarded != 0),
      num_threads_(options.num_threads),
      most_fallback_(options.most_fallback) {
    require_fit(network_->facts, ports_, options, path);
    if (!unguarded_)
        require_guard(*network_, path);
}

hpcs_counts Closure::apply(int num_inputs, const hpcs_array* inputs, const hpcs_array* output) {
    const c10::InferenceMode no_gradients;
    hpcs_counts counts{1, require_arrays(ports_, halo_, num_inputs, inputs, output), 0, 0, 0};
    if (counts.cells > 0) {
        std::vector<at::Tensor> fields;
        for (int i = 0; i < num_inputs; ++i)
            fields.push_back(view_of(inputs[i], device_));
        const at::Tensor target = view_of(*output, device_);
        if (ports_.is_grid || !device_.is_cpu())
            apply_to(std::move(fields), target, *output, counts);
        else
            apply_in_parts(fields, target, *output, counts);
        if (!device_.is_cpu()) {  // where copies are still on their way when torch returns
            const c10::impl::VirtualGuardImpl accelerator(device_.type());
            accelerator.synchronizeStream(accelerator.getStream(device_));
        }
    }
    add(counts);
    return counts;
}

/// Cells that know nothing of each other.
void Closure::apply_in_parts(const std::vector<at::Tensor>& fields, const at::Tensor& target, const hpcs_array& output,
                             hpcs_counts& counts) {
    for (std::int64_t first = 0; first < counts.cells; first += CELLS_AT_ONCE) {
        const std::int64_t number = std::min(CELLS_AT_ONCE, counts.cells - first);
        std::vector<at::Tensor> part;
        for (const at::Tensor& field : fields)
            part.push_back(field.narrow(0, first, number));
        apply_to(std::move(part), target.narrow(0, first, number), output, counts);
    }
}

void Closure::apply_to(std::vector<at::Tensor> fields, at::Tensor target, const hpcs_array& output,
                       hpcs_counts& counts) {
    for (std::size_t i = 0; i < fields.size(); ++i) {
        // As one block in memory: how a host stores its arrays must not change the bits of the result.
        fields[i] = fields[i].to(dtype_).contiguous();
        if (is_block_)
            fields[i] = block_of(std::move(fields[i]), ports_.inputs[i]);
    }
    at::Tensor result;
    if (unguarded_) {
        result = network_->forward(fields);
    } else {
        auto [guarded, fallen] = network_->guarded(fields, is_block_ ? *ports_.halo : 0);
        result = std::move(guarded);
        count(fallen, counts);
    }
    if (is_block_)
        result = inner(std::move(result), output);
    require_same_shape(result, target);
    // An output that the network does not compute but passes on lies in the memory of the input.
    const bool is_input = std::any_of(fields.begin(), fields.end(),
                                      [&](const at::Tensor& field) { return field.is_alias_of(result); });
    target.copy_(is_input ? result.clone() : result);
}

/// The cells of an input that the network needs: of a halo as many as it reaches, and the field wrapped round along an
/// axis that the host has not cut.
at::Tensor Closure::block_of(at::Tensor field, const Port& port) const {
    const std::int64_t needed = *ports_.halo;
    for (std::size_t axis = 0; axis < port.axes.size(); ++axis) {
        const auto number = std::string_view("xyz").find(port.axes[axis]);
        if (number == std::string_view::npos)
            continue;
        const std::int64_t size = field.size(axis), given = halo_[number];
        if (given > 0)
            field = field.narrow(axis, given - needed, size - 2 * (given - needed));
        else
            field = field.index_select(axis, wrapped(size, needed, field.options().dtype(at::kLong)));
    }
    return field.contiguous();
}

/// The part of a block's result that the host has asked for.
at::Tensor Closure::inner(at::Tensor field, const hpcs_array& output) const {
    for (std::size_t axis = 0; axis < ports_.output.axes.size(); ++axis)
        if (std::string_view("xyz").find(ports_.output.axes[axis]) != std::string_view::npos)
            field = field.narrow(axis, *ports_.halo, output.shape[axis]);
    return field;
}

void Closure::require_few_fallbacks(const hpcs_counts& counts) const {
    const std::int64_t fallen = counts.outside + counts.not_finite + counts.failed;
    if (static_cast<double>(fallen) > most_fallback_ * static_cast<double>(counts.cells))
        throw Error(HPCS_TOO_MUCH_FALLBACK,
                    c10::str(fallen, " of ", counts.cells, " cells got the classical closure (", counts.outside,
                             " outside the trained range, ", counts.not_finite, " with a value that is not finite, ",
                             counts.failed, " where the network failed), options.most_fallback is ", most_fallback_,
                             "; the output is finite: go on, cut the time step, or stop"));
}

void Closure::add(const hpcs_counts& counts) {
    const std::int64_t numbers[] = {counts.calls, counts.cells, counts.outside, counts.not_finite, counts.failed};
    for (std::size_t i = 0; i < totals_.size(); ++i)
        if (numbers[i] != 0)
            totals_[i].fetch_add(numbers[i], std::memory_order_relaxed);
}

hpcs_counts Closure::total() const {
    return {totals_[0].load(), totals_[1].load(), totals_[2].load(), totals_[3].load(), totals_[4].load()};
}

const char* Closure::fact(const std::string& key) const {
    const auto found = network_->facts.find(key);
    return found == network_->facts.end() ? nullptr : found->second.c_str();
}

}  // namespace hpcs
