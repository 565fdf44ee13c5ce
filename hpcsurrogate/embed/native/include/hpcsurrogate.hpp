// The C++ face of hpcsurrogate.h: one class that owns the closure, views of the host's arrays, exceptions.
//
//     hpcsurrogate::Options options;
//     options.filter_width = 0.1;  // [m] what this solver resolves; checked against the artifact
//     hpcsurrogate::Closure closure("run/model.pt", options);
//     closure.apply({velocity.data(), {1, 2, nx, ny}}, {acceleration.data(), {1, 2, nx, ny}});  // or {1, 3, nx, ny, nz}
//
// C++17, nothing but the standard library and the C ABI.
#ifndef HPCSURROGATE_HPP
#define HPCSURROGATE_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "hpcsurrogate.h"

namespace hpcsurrogate {

/// How many cells fell back to the classical closure, and why; the fields are those of `hpcs_counts`.
using Counts = hpcs_counts;

/// What went wrong, in one line. `status()` is that of hpcsurrogate.h.
class Error : public std::runtime_error {
  public:
    Error(int status, const std::string& message) : std::runtime_error(message), status_(status) {}
    int status() const noexcept { return status_; }

  private:
    int status_;
};

/// The solver may go on: nothing was written, unless `status()` is HPCS_TOO_MUCH_FALLBACK, after which the output is
/// there and finite, and the host may cut its time step.
class RecoverableError : public Error {
  public:
    RecoverableError(int status, const std::string& message, const Counts& counts = {})
        : Error(status, message), counts_(counts) {}
    /// Of the call that failed; all zero unless `status()` is HPCS_TOO_MUCH_FALLBACK.
    const Counts& counts() const noexcept { return counts_; }

  private:
    Counts counts_;
};

/// The closure cannot be used: a model that is missing, damaged or for another solver.
class FatalError : public Error {
  public:
    using Error::Error;
};

/// `hpcs_options` that start with their defaults.
struct Options : hpcs_options {
    Options() { hpcs_default_options(this); }
};

/// An array of the host that is read: its first element, its lengths and the distances between neighbours in elements.
/// Nothing is copied or owned. Without strides the last axis runs fastest and there are no gaps.
class ConstView {
  public:
    using Lengths = std::initializer_list<std::int64_t>;

    template <class Real>
    ConstView(const Real* data, Lengths shape, Lengths strides = {}) : array_{} {
        static_assert(std::is_same_v<Real, float> || std::is_same_v<Real, double>, "arrays are float or double");
        if (shape.size() > HPCS_MAX_DIMS || (strides.size() != 0 && strides.size() != shape.size()))
            throw RecoverableError(HPCS_BAD_ARGUMENT,
                                   "a view has at most 5 axes and as many strides as axes; check its lengths");
        array_.data = const_cast<Real*>(data);  // the C ABI has one type for arrays that are read and written
        array_.dtype = std::is_same_v<Real, float> ? HPCS_FLOAT32 : HPCS_FLOAT64;
        array_.num_dims = static_cast<int>(shape.size());
        std::copy(shape.begin(), shape.end(), array_.shape);
        std::copy(strides.begin(), strides.end(), array_.strides);
        if (strides.size() == 0)
            make_contiguous();
    }

    const hpcs_array& array() const noexcept { return array_; }

  private:
    hpcs_array array_;

    void make_contiguous() {
        std::uint64_t stride = 1;  // unsigned: what is too large is for hpcs_apply to refuse
        for (int axis = array_.num_dims - 1; axis >= 0; --axis) {
            array_.strides[axis] = static_cast<std::int64_t>(stride);
            stride *= static_cast<std::uint64_t>(array_.shape[axis]);
        }
    }
};

/// An array of the host that is written.
class View : public ConstView {
  public:
    template <class Real, class = std::enable_if_t<!std::is_const_v<Real>>>
    View(Real* data, Lengths shape, Lengths strides = {}) : ConstView(data, shape, strides) {}
};

/// A closure from an artifact. Threads may share one; it is closed with the last use of its owner.
class Closure {
  public:
    /// Load the artifact after every check, those of `options` against it included.
    ///
    /// Throws FatalError if a check fails (tests/hosts/test_languages.py, tests/faults/test_host_start_faults.py), and
    /// RecoverableError if an option is none or there is no memory.
    explicit Closure(const std::string& path, const Options& options = Options()) {
        hpcs_closure* opened = nullptr;
        require(hpcs_open(path.c_str(), &options, &opened));
        handle_.reset(opened);
    }

    /// Write the closure's output for `inputs`, which may be the same array as `output` where their shapes are.
    ///
    /// Returns the counts of this call. Throws RecoverableError or FatalError.
    Counts apply(std::initializer_list<ConstView> inputs, const View& output) {
        hpcs_array arrays[MOST_INPUTS];
        if (inputs.size() > MOST_INPUTS)
            throw RecoverableError(HPCS_BAD_ARGUMENT, "an artifact has at most 4 inputs; hand over those it names");
        int num_inputs = 0;
        for (const ConstView& input : inputs)
            arrays[num_inputs++] = input.array();
        Counts counts{};
        require(hpcs_apply(handle_.get(), num_inputs, arrays, &output.array(), &counts), counts);
        return counts;
    }

    /// The same for an artifact of one input.
    Counts apply(const ConstView& input, const View& output) { return apply({input}, output); }

    /// Sum of the counts of all calls of all threads.
    Counts total_counts() const {
        Counts counts{};
        require(hpcs_total_counts(handle_.get(), &counts));
        return counts;
    }

    /// What the artifact says of itself: "filter_width", "grid_spacing", "halo", ...; nothing if it knows no `key`.
    std::optional<std::string> fact(const std::string& key) const {
        const char* value = hpcs_fact(handle_.get(), key.c_str());
        return value == nullptr ? std::nullopt : std::optional<std::string>(value);
    }

    /// The whole of hpcsurrogate.json.
    std::string metadata() const { return hpcs_metadata(handle_.get()); }

    /// For calls of the C ABI itself.
    hpcs_closure* get() const noexcept { return handle_.get(); }

  private:
    static constexpr std::size_t MOST_INPUTS = 4;
    struct Close {
        void operator()(hpcs_closure* closure) const noexcept { hpcs_close(closure); }
    };
    std::unique_ptr<hpcs_closure, Close> handle_;

    static void require(int status, const Counts& counts = {}) {
        if (status == HPCS_OK)
            return;
        if (hpcs_is_recoverable(status))
            throw RecoverableError(status, hpcs_last_error(), counts);
        throw FatalError(status, hpcs_last_error());
    }
};

}  // namespace hpcsurrogate

#endif
