#include "archive_pickle.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "archive_rules.h"

namespace hpcs {
namespace {

constexpr unsigned char STOP = 0x2e;

/// Why an opcode is refused.
struct Odd : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void require(bool is_so) {
    if (!is_so)
        throw Odd("is not what torch writes for a closure");
}

enum class Kind { mark, type, text, number, flag, other, tuple, container, object, storage, tensor };

/// What would lie on the stack.
struct Value {
    Kind kind = Kind::mark;
    std::string_view text{};      // name of a type, bytes of a text: no copy, since each may be repeated often
    std::int64_t number = 0;      // or number of elements of a storage
    std::vector<Value> values{};  // of a tuple
    std::size_t depth = 0;
};

/// Depth of what holds these.
std::size_t deeper(const std::vector<Value>& values) {
    std::size_t depth = 1;
    for (const Value& value : values)
        depth = std::max(depth, value.depth + 1);
    if (depth > Rules::get().limits.at("depth"))
        throw Odd("nests deeper than what a closure holds");
    return depth;
}

std::uint64_t little_endian(std::string_view bytes) {
    std::uint64_t number = 0;
    for (std::size_t i = bytes.size(); i-- > 0;)
        number = number << 8 | static_cast<unsigned char>(bytes[i]);
    return number;
}

/// Refuse a tensor whose elements are not all within its storage.
void check_tensor(const std::vector<Value>& words) {
    const std::vector<Kind> expected = {Kind::storage, Kind::number, Kind::tuple,
                                        Kind::tuple,   Kind::flag,   Kind::container};
    require(std::equal(words.begin(), words.end(), expected.begin(), expected.end(),
                       [](const Value& word, Kind kind) { return word.kind == kind; }));
    const std::vector<Value>&sizes = words[2].values, &strides = words[3].values;
    const auto is_number = [](const Value& word) { return word.kind == Kind::number; };
    require(sizes.size() == strides.size() && std::all_of(sizes.begin(), sizes.end(), is_number) &&
            std::all_of(strides.begin(), strides.end(), is_number));
    const std::int64_t room = words[0].number;
    std::int64_t number = 1, last = words[1].number;
    bool inside = 0 <= last && last < room;
    for (std::size_t i = 0; inside && i < sizes.size(); ++i) {
        const std::int64_t size = sizes[i].number, stride = strides[i].number;
        // By divisions, since a product may be more than a number can hold.
        inside = size > 0 && stride >= 0 && size <= room / number &&
                 (size == 1 || stride <= (room - 1 - last) / (size - 1));
        if (inside) {
            number *= size;
            last += size == 1 ? 0 : (size - 1) * stride;
        }
    }
    if (!inside)
        throw Odd("a tensor is empty or reaches beyond its storage");
}

/// Stack and memory of unpickling.
class Machine {
  public:
    Machine(std::string folder, const Entries& entries, const std::set<std::string>& classes)
        : folder_(std::move(folder)), entries_(entries), classes_(classes) {}

    /// Do one step.
    void run(unsigned char opcode, std::string_view argument) {
        switch (opcode) {
        case 0x80: break;  // the version of the format
        case 'c': stack_.push_back({Kind::type, known_type(argument)}); break;
        case 'q':
        case 'r': remember(little_endian(argument)); break;
        case 'h':
        case 'j': repeat(little_endian(argument)); break;
        case '(': stack_.push_back({Kind::mark}); break;
        case ')': stack_.push_back({Kind::tuple}); break;
        case 't': push_tuple(take_to_mark()); break;
        case 0x85:
        case 0x86:
        case 0x87: push_tuple(take(opcode - 0x84u)); break;
        case '}':
        case ']': stack_.push_back({Kind::container}); break;
        case 'a': fill(take(1)); break;
        case 's': fill(take(2)); break;
        case 'e':
        case 'u': fill(take_to_mark()); break;
        case 'X': stack_.push_back({Kind::text, argument.substr(4)}); break;
        case 'K':
        case 'M': push_number(static_cast<std::int64_t>(little_endian(argument))); break;
        case 'J': push_number(static_cast<std::int32_t>(little_endian(argument))); break;
        case 0x8a:
            require(argument[0] == 8);
            push_number(static_cast<std::int64_t>(little_endian(argument.substr(1))));
            break;
        case 0x88:
        case 0x89: stack_.push_back({Kind::flag}); break;
        case 'G':
        case 'N': stack_.push_back({Kind::other}); break;  // a number with a point, None
        case 'Q': push_storage(take(1)[0]); break;
        case 'R': call(); break;
        case 0x81: make_object(); break;
        case 'b': build_object(); break;
        case STOP:
            take(1);
            require(stack_.empty());
            break;
        default: require(false);
        }
    }

  private:
    std::string folder_;  // of the entries that hold the storages
    const Entries& entries_;
    const std::set<std::string>& classes_;
    std::vector<Value> stack_;
    std::vector<Value> memory_;  // a mark for what may not be repeated

    void push_number(std::int64_t number) { stack_.push_back({Kind::number, {}, number}); }

    void push_tuple(std::vector<Value> values) {
        const std::size_t depth = deeper(values);
        stack_.push_back({Kind::tuple, {}, 0, std::move(values), depth});
    }

    /// The values on top of the stack, the topmost last.
    std::vector<Value> take(std::size_t number) {
        require(stack_.size() >= number);
        const auto first = stack_.end() - static_cast<std::ptrdiff_t>(number);
        require(std::none_of(first, stack_.end(), [](const Value& value) { return value.kind == Kind::mark; }));
        std::vector<Value> taken(std::make_move_iterator(first), std::make_move_iterator(stack_.end()));
        stack_.erase(first, stack_.end());
        return taken;
    }

    /// All that was laid there since the last mark.
    std::vector<Value> take_to_mark() {
        const auto mark = std::find_if(stack_.rbegin(), stack_.rend(),
                                       [](const Value& value) { return value.kind == Kind::mark; });
        require(mark != stack_.rend());
        std::vector<Value> taken = take(static_cast<std::size_t>(mark - stack_.rbegin()));
        stack_.pop_back();
        return taken;
    }

    /// torch makes room for all numbers up to this one, and gives them in turn.
    void remember(std::uint64_t number) {
        require(!stack_.empty() && number <= memory_.size());
        const Kind kind = stack_.back().kind;
        const bool may_repeat =
            kind == Kind::type || kind == Kind::text || kind == Kind::storage || kind == Kind::tensor;
        memory_.resize(std::max<std::size_t>(memory_.size(), number + 1));
        memory_[number] = may_repeat ? stack_.back() : Value{Kind::mark};
    }

    /// Lay on the stack what was remembered. No container, so that nothing holds itself.
    void repeat(std::uint64_t number) {
        require(number < memory_.size() && memory_[number].kind != Kind::mark);
        stack_.push_back(memory_[number]);
    }

    /// Put values into the container on top of the stack.
    void fill(const std::vector<Value>& values) {
        require(!stack_.empty() && stack_.back().kind == Kind::container);
        stack_.back().depth = std::max(stack_.back().depth, deeper(values));
    }

    std::string_view known_type(std::string_view lines) const {
        std::string name(lines.substr(0, lines.size() - 1));
        name[name.find('\n')] = '.';
        const Rules& rules = Rules::get();
        if (const auto found = rules.globals.find(name); found != rules.globals.end())
            return *found;
        if (const auto found = rules.storages.find(name); found != rules.storages.end())
            return found->first;
        if (const auto found = classes_.find(name); found != classes_.end())
            return *found;
        throw Odd(quoted(name, 100) + " is none of the types of a closure");
    }

    /// A storage lies in an entry of just its size.
    void push_storage(const Value& words) {
        require(words.kind == Kind::tuple && words.values.size() == 5);
        const std::vector<Value>& word = words.values;
        require(word[0].kind == Kind::text && word[1].kind == Kind::type && word[2].kind == Kind::text &&
                word[3].kind == Kind::text && word[4].kind == Kind::number);
        const auto size = Rules::get().storages.find(word[1].text);
        const std::int64_t elements = word[4].number;
        require(word[0].text == "storage" && word[3].text == "cpu" && size != Rules::get().storages.end() &&
                elements >= 0);
        const auto entry = entries_.find(folder_ + "/" + std::string(word[2].text));
        const std::size_t bytes = entry == entries_.end() ? 0 : entry->second.size();
        if (bytes % size->second != 0 || bytes / size->second != static_cast<std::uint64_t>(elements))
            throw Odd("a storage is not as large as its entry");
        stack_.push_back({Kind::storage, {}, elements});
    }

    /// Replace a function and its arguments by the result.
    void call() {
        const std::vector<Value> taken = take(2);
        const Value &function = taken[0], &arguments = taken[1];
        require(function.kind == Kind::type && Rules::get().globals.contains(function.text) &&
                arguments.kind == Kind::tuple);
        if (function.text == "torch._utils._rebuild_tensor_v2") {
            check_tensor(arguments.values);
            stack_.push_back({Kind::tensor});
            return;
        }
        if (function.text == "torch.jit._pickle.restore_type_tag")
            require(arguments.values.size() == 2 && arguments.values[1].kind == Kind::text &&
                    arguments.values[1].text.size() <= Rules::get().limits.at("name"));
        stack_.push_back({Kind::container, {}, 0, {}, deeper(arguments.values)});
    }

    void make_object() {
        const std::vector<Value> taken = take(2);
        require(taken[0].kind == Kind::type && classes_.contains(std::string(taken[0].text)) && taken[1].kind == Kind::tuple);
        stack_.push_back({Kind::object});
    }

    void build_object() {
        const std::vector<Value> taken = take(2);
        require(taken[0].kind == Kind::object && taken[0].depth == 0);
        stack_.push_back({Kind::object, {}, 0, {}, deeper({taken[1]})});
    }
};

/// Position behind the argument of an opcode; beyond the end of `content` if that is cut off.
std::size_t end_of_argument(std::string_view content, std::size_t start, const std::string& follows) {
    const std::size_t cut_off = content.size() + 1;
    if (follows == "lines2") {
        const auto first = content.find('\n', start);
        const auto second = first == content.npos ? content.npos : content.find('\n', first + 1);
        return second == content.npos ? cut_off : second + 1;
    }
    if (!follows.starts_with("size"))
        return start + std::stoul(follows);
    const std::size_t width = std::stoul(follows.substr(4));
    if (content.size() - start < width)
        return cut_off;
    return start + width + little_endian(content.substr(start, width));
}

}  // namespace

void check_pickle(const Entries& entries, const std::string& name, const std::string& path,
                  const std::set<std::string>& classes) {
    const std::string_view content = entries.at(name);
    Machine machine(name.substr(0, name.find('.')), entries, classes);
    std::size_t position = 0;
    while (position < content.size()) {
        const auto opcode = static_cast<unsigned char>(content[position]);
        const std::string place = name + " byte " + std::to_string(position) + ": ";
        const auto follows = Rules::get().opcodes.find(opcode);
        if (follows == Rules::get().opcodes.end())
            refuse_code(path, place + "opcode " + hexadecimal(opcode) + " is none of those a closure needs");
        const std::size_t start = position + 1, end = end_of_argument(content, start, follows->second);
        if (end > content.size())
            break;
        try {
            machine.run(opcode, content.substr(start, end - start));
        } catch (const Odd& reason) {
            refuse_code(path, place + reason.what());
        }
        if (opcode == STOP && end == content.size())
            return;
        if (opcode == STOP)
            break;
        position = end;
    }
    refuse_code(path, name + ": is cut off or goes on behind its end");
}

}  // namespace hpcs
