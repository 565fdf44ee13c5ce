#include "declaration.h"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace hpcs {
namespace {

// A host computes its spacing as length over cells, or has it from a file of settings with a few digits.
constexpr double SAME_LENGTH = 1e-4;

template <class A, class B>
[[noreturn]] void misfit(const std::string& path, const char* what, const A& artifact, const B& host,
                         const char* remedy = "use an artifact that was trained for this host") {
    throw Error(HPCS_MISFIT, c10::str(path, ": ", what, ": the artifact is for ", artifact, ", this host declares ",
                                      host, "; ", remedy));
}

void require_length(double host, double artifact, const char* what, const std::string& path) {
    if (host != 0 && !(std::abs(host - artifact) <= SAME_LENGTH * artifact))
        misfit(path, what, c10::str(artifact, " m"), c10::str(host, " m"));
}

void require_units(const char* host, const std::vector<Port>& ports, const char* what, const std::string& path) {
    if (host == nullptr)
        return;
    std::string units;
    for (const auto& port : ports)
        units += (units.empty() ? "" : " ") + port.unit;
    if (words_of(host) != words_of(units))
        misfit(path, what, "'" + units + "'", c10::str("'", host, "'"));
}

void require_halo(const Ports& ports, const hpcs_options& options, const std::string& path) {
    constexpr std::string_view axes = "xyz";
    for (std::size_t axis = 0; axis < axes.size(); ++axis) {
        const int halo = options.halo[axis];
        if (halo == 0)
            continue;
        if (ports.inputs[0].axes.find(axes[axis]) == std::string::npos)
            misfit(path, "halo", c10::str("fields without an axis ", axes[axis]), c10::str(halo, " cells along it"));
        if (!ports.halo)
            misfit(path, "halo", "whole fields alone, which must not be cut", c10::str(halo, " cells"));
        if (halo < *ports.halo)
            misfit(path, "halo", c10::str("a halo of at least ", *ports.halo, " cells"), c10::str(halo, " cells"),
                   "hand over as many cells of the neighbours");
    }
}

/// The law of a material, a Reynolds stress and a body force close no filter; they say so by these facts, which are
/// there and empty.
bool closes_no_filter(const Facts& facts) {
    const auto width = facts.find("filter_width");
    return width != facts.end() && width->second.empty();
}

}  // namespace

void require_fit(const Facts& facts, const Ports& ports, const hpcs_options& options, const std::string& path) {
    const bool has_filter = !closes_no_filter(facts);
    if (!has_filter && options.filter_width != 0)
        misfit(path, "filter width", "any, since it closes no filter", c10::str(options.filter_width, " m"),
               "declare none");
    if (has_filter)
        require_length(options.filter_width, numbers_of(facts, "filter_width", path)[0], "filter width", path);
    const auto spacing = has_filter ? numbers_of(facts, "grid_spacing", path) : std::vector<double>{};
    for (std::size_t axis = 0; axis < std::size(options.grid_spacing); ++axis)
        if (axis < spacing.size())
            require_length(options.grid_spacing[axis], spacing[axis], "grid spacing", path);
        else if (options.grid_spacing[axis] != 0)
            misfit(path, "grid spacing", c10::str(spacing.size(), " axes"), c10::str("one along axis ", axis + 1));
    if (options.layout != nullptr && ports.is_grid && options.layout != ports.inputs[0].layout)
        misfit(path, "layout", ports.inputs[0].layout + " fields", std::string(options.layout) + " ones");
    require_units(options.input_units, ports.inputs, "units of the input", path);
    require_units(options.output_units, ports.outputs, "unit of the output", path);
    require_halo(ports, options, path);
}

void require_sound(const hpcs_options& options) {
    const auto require = [](bool sound, const std::string& message) {
        if (!sound)
            throw Error(HPCS_BAD_ARGUMENT, "hpcs_options: " + message);
    };
    require(options.struct_size == sizeof(hpcs_options),
            c10::str("struct_size is ", options.struct_size, ", this library has ", sizeof(hpcs_options),
                     "; call hpcs_default_options before anything is set in it, and compile with the header of the "
                     "library"));
    // An OpenMP runtime that cannot start a thread ends the process.
    require(options.num_threads >= 1 && options.num_threads <= 1024, "num_threads must be between 1 and 1024");
    require(options.device == HPCS_CPU || options.device == HPCS_CUDA, "device must be HPCS_CPU or HPCS_CUDA");
    require(options.device_index >= 0 && options.device_index < 128, "device_index must be between 0 and 127");
    require(options.most_fallback >= 0, "most_fallback must be a fraction of the cells, 0 to 1");
    require(std::all_of(std::begin(options.halo), std::end(options.halo), [](int cells) { return cells >= 0; }),
            "halo must be at least 0 cells along each axis");
}

}  // namespace hpcs
