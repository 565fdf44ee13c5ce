#include "artifact_file.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "error.h"
#include "hpcsurrogate.h"
#include "sha256.h"

namespace hpcs {
namespace {

/// Nothing if there is no such file.
std::optional<std::string> read_file(const std::string& path) {
    std::error_code failed;
    const auto status = std::filesystem::status(path, failed);
    if (status.type() == std::filesystem::file_type::not_found)
        return std::nullopt;
    std::ifstream file(path, std::ios::binary);
    std::ostringstream content;
    // Of a folder or a device there may be no end.
    if (is_regular_file(status) && file && std::filesystem::file_size(path, failed) > 0)
        content << file.rdbuf();
    if (!is_regular_file(status) || !file || failed || !content)
        throw Error(HPCS_BAD_MODEL, path + ": cannot be read; give the path of a file that you may read");
    return std::move(content).str();
}

/// The first word of a manifest, or "" if it is no SHA-256.
std::string promised_by(const std::string& manifest) {
    constexpr std::string_view space = " \t\n\v\f\r\x1c\x1d\x1e\x1f";  // what Python's str.split takes for it
    const auto start = std::min(manifest.find_first_not_of(space), manifest.size());
    const std::string word = manifest.substr(start, manifest.find_first_of(space, start) - start);
    const bool is_sha256 = word.size() == 64 && word.find_first_not_of("0123456789abcdef") == std::string::npos;
    return is_sha256 ? word : "";
}

}  // namespace

std::string read_checked(const std::string& path) {
    std::optional<std::string> content = read_file(path);
    if (!content)
        throw Error(HPCS_BAD_MODEL, path + ": file is missing; write it with `hpcsurrogate export`");
    const std::string manifest_path = path + ".sha256";
    const std::string manifest = std::filesystem::path(manifest_path).filename().string();
    const std::optional<std::string> manifest_text = read_file(manifest_path);
    if (!manifest_text)
        throw Error(HPCS_BAD_MODEL, path + ": the checksum " + manifest +
                                        " is missing beside it; copy it along with the model or export again");
    const std::string promised = promised_by(*manifest_text);
    if (promised.empty())
        throw Error(HPCS_BAD_MODEL,
                    manifest_path + ": holds no SHA-256; copy it again or export the model again");
    const std::string found = sha256(*content);
    if (found != promised)
        throw Error(HPCS_BAD_MODEL, path + ": SHA-256 is " + found.substr(0, 12) + "..., " + manifest + " promises " +
                                        promised.substr(0, 12) +
                                        "...; the file was changed or damaged: copy it again or export the model "
                                        "again");
    return std::move(*content);
}

}  // namespace hpcs
