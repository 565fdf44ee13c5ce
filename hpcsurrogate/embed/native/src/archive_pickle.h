// The pickles of an archive, gone through as unpickling would, without making anything. The rule stands in words at the
// head of operators.txt; embed/archive_pickle.py is the same in Python.
#pragma once

#include <map>
#include <set>
#include <string>

namespace hpcs {

/// The entries of an archive by name, without its folder.
using Entries = std::map<std::string, std::string>;

/// Throw Error with HPCS_BAD_MODEL if the pickle `name` among `entries` makes anything but tensors within the bytes of
/// their entries, numbers, texts, containers and objects of `classes` (tests/hosts/test_native_loader.py).
void check_pickle(const Entries& entries, const std::string& name, const std::string& path,
                  const std::set<std::string>& classes);

}  // namespace hpcs
