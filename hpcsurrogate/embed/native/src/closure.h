// A closure that a host has open: arrays in, network, arrays out.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "host_arrays.h"
#include "hpcsurrogate.h"
#include "network.h"
#include "ports.h"

namespace hpcs {

class Closure {
  public:
    /// Throws Error if a check fails, those against what `options` declare included.
    Closure(const std::string& path, const hpcs_options& options);

    /// Throws Error if an argument is not sound, and then has written nothing. Threads may call it at the same time.
    hpcs_counts apply(int num_inputs, const hpcs_array* inputs, const hpcs_array* output);

    /// Throws Error with HPCS_TOO_MUCH_FALLBACK if more cells fell back than the host wants.
    void require_few_fallbacks(const hpcs_counts& counts) const;

    hpcs_counts total() const;
    int num_threads() const { return num_threads_; }
    const char* fact(const std::string& key) const;
    const char* metadata() const { return network_->metadata.c_str(); }

  private:
    std::shared_ptr<Network> network_;
    Ports ports_;
    at::Device device_;
    at::ScalarType dtype_;
    Halo halo_;
    bool is_block_;  // fields are subdomains along one axis at least
    bool unguarded_;
    int num_threads_;
    double most_fallback_;
    std::array<std::atomic<std::int64_t>, 5> totals_{};  // as hpcs_counts

    void apply_in_parts(const std::vector<at::Tensor>& fields, const at::Tensor& target, const hpcs_array& output,
                        hpcs_counts& counts);
    void apply_to(std::vector<at::Tensor> fields, at::Tensor target, const hpcs_array& output, hpcs_counts& counts);
    at::Tensor block_of(at::Tensor field, const Port& port) const;
    at::Tensor inner(at::Tensor field, const hpcs_array& output) const;
    void add(const hpcs_counts& counts);
};

}  // namespace hpcs
