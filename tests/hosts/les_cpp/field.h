// An array of this rank's cells with ghost cells on all four sides.
#pragma once

#include <cstddef>
#include <vector>

namespace les {

/// `components` arrays of rows along x and columns along y, y fastest; indices from -ghosts on.
class Field {
  public:
    Field(int components, int rows, int columns, int ghosts)
        : components(components), rows(rows), columns(columns), ghosts(ghosts),
          values_(static_cast<std::size_t>(components) * (rows + 2 * ghosts) * (columns + 2 * ghosts), 0.0) {}

    double& operator()(int component, int i, int j) { return values_[index(component, i, j)]; }
    double operator()(int component, int i, int j) const { return values_[index(component, i, j)]; }

    double* data() { return values_.data(); }
    int row_length() const { return columns + 2 * ghosts; }
    int component_length() const { return (rows + 2 * ghosts) * row_length(); }
    std::size_t size() const { return values_.size(); }

    /// The first value of a row, ghost cells included.
    double* row(int component, int i) { return &values_[index(component, i, -ghosts)]; }

    const int components, rows, columns, ghosts;

  private:
    std::size_t index(int component, int i, int j) const {
        return static_cast<std::size_t>(component) * component_length() +
               static_cast<std::size_t>(i + ghosts) * row_length() + (j + ghosts);
    }

    std::vector<double> values_;
};

}  // namespace les
