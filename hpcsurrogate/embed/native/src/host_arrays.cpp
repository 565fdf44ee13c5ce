#include "host_arrays.h"

#include <ATen/ops/from_blob.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>

namespace hpcs {
namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& message) {
    throw Error(HPCS_BAD_ARGUMENT, what + ": " + message);
}

/// Cells of the halo at both ends of an axis.
std::int64_t halo_of_axis(const Halo& halo, char axis) {
    const auto number = std::string_view("xyz").find(axis);
    return number == std::string_view::npos ? 0 : 2 * halo[number];
}

bool is_empty(const hpcs_array& array) {
    return std::any_of(array.shape, array.shape + array.num_dims, [](std::int64_t size) { return size == 0; });
}

/// Sizes and strides whose last byte cannot be counted would be addressed at random.
void require_addressable(const hpcs_array& array, const Port& port) {
    // As bytes of doubles, an offset must fit into a signed number.
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max() / 16;
    std::int64_t last = 0, elements = 1;
    for (int axis = 0; axis < array.num_dims; ++axis) {
        const std::int64_t size = array.shape[axis], stride = array.strides[axis];
        if (size < 0)
            refuse(port.name, c10::str("size of axis ", axis + 1, " is ", size, "; it must be at least 0"));
        if (stride < 0)
            refuse(port.name, c10::str("stride of axis ", axis + 1, " is ", stride, "; it must be at least 0"));
        std::int64_t reach = 0;
        if (__builtin_mul_overflow(std::max<std::int64_t>(size - 1, 0), stride, &reach) ||
            __builtin_add_overflow(last, reach, &last) || __builtin_mul_overflow(elements, size, &elements) ||
            last > most || elements > most)
            refuse(port.name, "sizes and strides exceed any memory; give sizes in cells and strides in elements");
    }
}

void require_kind(const hpcs_array& array, const Port& port) {
    if (array.dtype != HPCS_FLOAT32 && array.dtype != HPCS_FLOAT64)
        refuse(port.name, c10::str("type is ", array.dtype, "; it must be HPCS_FLOAT32 or HPCS_FLOAT64"));
    if (array.num_dims != static_cast<int>(port.axes.size()))
        refuse(port.name, c10::str("has ", array.num_dims, " axes; ", port.field, " has ", port.axes.size(), " (",
                               port.axes, ")"));
    require_addressable(array, port);
    const auto component = port.axes.find('c');
    if (component != std::string::npos && array.shape[component] != port.num_components)
        refuse(port.name, c10::str("has ", array.shape[component], " components; ", port.field, " has ",
                               port.num_components, ", on axis ", component + 1));
    if (array.data == nullptr && !is_empty(array))
        refuse(port.name, "data is NULL");
    if (reinterpret_cast<std::uintptr_t>(array.data) % (array.dtype == HPCS_FLOAT32 ? 4 : 8) != 0)
        refuse(port.name, "data does not lie on a multiple of the size of its numbers");
}

/// A stencil that reaches round a periodic axis more than once has no meaning, and torch would not pad so far.
void require_room_for_stencils(const hpcs_array& array, const Ports& ports, const Halo& halo) {
    const Port& port = ports.inputs[0];
    for (std::size_t i = 0; i < port.axes.size(); ++i) {
        const auto axis = std::string_view("xyz").find(port.axes[i]);
        if (axis != std::string_view::npos && halo[axis] == 0 && array.shape[i] < ports.halo.value_or(0))
            refuse(port.name, c10::str("size of axis ", port.axes[i], " is ", array.shape[i],
                                       "; the closure of a cell reaches ", *ports.halo, " cells"));
    }
}

/// Every element of an array that is written must have a place of its own.
void require_no_overlap(const hpcs_array& array, const Port& port) {
    const auto by_stride = [&](int first, int second) { return array.strides[first] < array.strides[second]; };
    std::array<int, HPCS_MAX_DIMS> order{};  // axes, the smallest stride first
    int num_axes = 0;
    for (int axis = 0; axis < array.num_dims; ++axis) {
        if (array.shape[axis] == 1)
            continue;
        const auto end = order.begin() + num_axes++;
        const auto place = std::upper_bound(order.begin(), end, axis, by_stride);
        std::copy_backward(place, end, end + 1);
        *place = axis;
    }
    std::int64_t last = 0;
    for (int i = 0; i < num_axes; ++i) {
        if (array.strides[order[i]] <= last)
            refuse(port.name, c10::str("elements overlap: the stride of axis ", order[i] + 1, " is ",
                                   array.strides[order[i]], "; it must be at least ", last + 1));
        last += (array.shape[order[i]] - 1) * array.strides[order[i]];
    }
}

/// The size of an axis of the output, under its letter. All arrays agree on it but for the halo of the inputs.
class Sizes {
  public:
    void add(const hpcs_array& array, const Port& port, const Halo& halo) {
        for (std::size_t i = 0; i < port.axes.size(); ++i) {
            const char axis = port.axes[i];
            const std::int64_t around = halo_of_axis(halo, axis);
            if (axis == 'c')
                continue;
            const std::int64_t size = array.shape[i] - around;
            if (size < 0)
                refuse(port.name, c10::str("size of axis ", axis, " is ", array.shape[i], ", less than its halo of ",
                                           around / 2, " cells at either end"));
            std::int64_t& known = sizes_[index(axis)];
            if (known >= 0 && known != size)
                refuse(port.name, c10::str("size of axis ", axis, " is ", array.shape[i], "; it must be ",
                                           known + around, ", as of the first input"));
            known = size;
        }
    }

    std::int64_t product() const {
        std::int64_t cells = 1;
        for (const std::int64_t size : sizes_)
            cells *= size >= 0 ? size : 1;
        return cells;
    }

  private:
    static constexpr std::string_view LETTERS = "bnxyz";
    std::array<std::int64_t, LETTERS.size()> sizes_ = {-1, -1, -1, -1, -1};

    static std::size_t index(char axis) { return LETTERS.find(axis); }
};

}  // namespace

std::int64_t require_arrays(const Ports& ports, const Halo& halo, int num_inputs, const hpcs_array* inputs,
                            const hpcs_array* output) {
    if (inputs == nullptr || output == nullptr)
        refuse("hpcs_apply", "inputs and output must not be NULL");
    if (num_inputs != static_cast<int>(ports.inputs.size()))
        refuse("hpcs_apply", c10::str("got ", num_inputs, " inputs; this closure has ", ports.inputs.size()));
    Sizes sizes;
    for (int i = 0; i < num_inputs; ++i) {
        require_kind(inputs[i], ports.inputs[i]);
        sizes.add(inputs[i], ports.inputs[i], halo);
    }
    require_kind(*output, ports.output);
    sizes.add(*output, ports.output, Halo{});
    if (!is_empty(*output)) {
        require_no_overlap(*output, ports.output);
        require_room_for_stencils(inputs[0], ports, halo);
    }
    return sizes.product();
}

at::Tensor view_of(const hpcs_array& array, at::Device device) {
    const auto options =
        at::TensorOptions().dtype(array.dtype == HPCS_FLOAT32 ? at::kFloat : at::kDouble).device(device);
    const at::IntArrayRef shape(array.shape, array.num_dims), strides(array.strides, array.num_dims);
    return at::for_blob(array.data, shape).strides(strides).options(options).target_device(device).make_tensor();
}

}  // namespace hpcs
