"""The lines that load an artifact in Python, C++ and Fortran, for its card."""

from hpcsurrogate.core.metadata import ArtifactMetadata

_GRID = {
    "python": (
        "from hpcsurrogate.embed.artifact import load_artifact\n"
        'closure = load_artifact("{name}")\n'
        "acceleration, fallen_back = closure.guarded(velocity)  # (b, {dims}, {sizes})"
    ),
    "cpp": (
        "#include <hpcsurrogate.hpp>\n"
        'hpcsurrogate::Closure closure("{name}");\n'
        "closure.apply({{velocity.data(), {{1, {dims}, {sizes}}}}}, {{acceleration.data(), {{1, {dims}, {sizes}}}}});"
    ),
    "fortran": (
        "type(closure) :: learned                                ! use hpcsurrogate\n"
        "call learned%open('{name}', options, status)\n"
        "call learned%apply(velocity, acceleration, status)      ! ({sizes}, {dims})"
    ),
}
_POINTWISE = {
    "python": (
        "from hpcsurrogate.embed.artifact import load_artifact\n"
        'closure = load_artifact("{name}")\n'
        "stress, fallen_back = closure.guarded(velocity_gradient, filter_width)  # (n, {gradients}), (n,)"
    ),
    "cpp": (
        "#include <hpcsurrogate.hpp>\n"
        'hpcsurrogate::Closure closure("{name}");\n'
        "closure.apply({{{{gradient.data(), {{n, {gradients}}}}}, {{width.data(), {{n}}}}}}, "
        "{{stress.data(), {{n, {stresses}}}}});"
    ),
    "fortran": (
        "type(closure) :: learned                                             ! use hpcsurrogate\n"
        "call learned%open('{name}', options, status)\n"
        "call learned%apply(velocity_gradient, filter_width, stress, status)  ! (n, {gradients}), (n), (n, {stresses})"
    ),
}
# Fortran's module has no call with these arrays; its programs call the C ABI.
_LAW = {
    "python": (
        "from hpcsurrogate.embed.artifact import load_artifact\n"
        'law = load_artifact("{name}")\n'
        "output, fallen_back = law.guarded(density, temperature, velocity_gradient)  # (n,), (n,), (n, {gradients})\n"
        "stress, error = law.split(output).values()  # (n, {stresses}) each"
    ),
    "cpp": (
        "#include <hpcsurrogate.hpp>\n"
        'hpcsurrogate::Closure law("{name}");\n'
        "law.apply({{{{density.data(), {{n}}}}, {{temperature.data(), {{n}}}}, "
        "{{gradient.data(), {{n, {gradients}}}}}}}, {{output.data(), {{n, {outputs}}}}});"
    ),
}
_CELLS = {
    "python": (
        "from hpcsurrogate.embed.artifact import load_artifact\n"
        'closure = load_artifact("{name}")\n'
        "{output}, fallen_back = closure.guarded({inputs})  # {shapes}"
    ),
    "cpp": (
        "#include <hpcsurrogate.hpp>\n"
        'hpcsurrogate::Closure closure("{name}");\n'
        "closure.apply({{{arrays}}}, {{{output}.data(), {{n, {outputs}}}}});"
    ),
}


def usage(metadata: ArtifactMetadata, name: str) -> dict[str, str]:
    """Return three lines of code for each language: open the file `name`, call it.

    Notes
    -----
    The lines for Python are run by tests/unit/embed/test_card.py.
    """
    port = metadata.inputs[-1] if metadata.is_law else metadata.inputs[0]
    numbers = {
        "gradients": len(port.components),
        "stresses": len(metadata.outputs[0].components),
        "outputs": metadata.num_output_components,
        "dims": len(port.components),
        "sizes": ", ".join(f"n{axis}" for axis in port.axes[2:]),
    }
    if metadata.filter is None and not metadata.is_law:
        return _usage_of_cells(metadata, name)
    lines = _LAW if metadata.is_law else _GRID if metadata.kind == "grid" else _POINTWISE
    return {language: text.format(name=name, **numbers) for language, text in lines.items()}


def _usage_of_cells(metadata: ArtifactMetadata, name: str) -> dict[str, str]:
    """Of a force or a Reynolds stress; Fortran's module has no call with these arrays."""
    shapes = [f"(n, {len(port.components)})" if port.components else "(n,)" for port in metadata.inputs]
    arrays = [
        f"{{{port.field}.data(), {{n{', ' + str(len(port.components)) if port.components else ''}}}}}"
        for port in metadata.inputs
    ]
    words = {
        "name": name,
        "inputs": ", ".join(port.field for port in metadata.inputs),
        "shapes": ", ".join(shapes),
        "arrays": ", ".join(arrays),
        "output": metadata.outputs[0].field,
        "outputs": metadata.num_output_components,
    }
    return {language: text.format(**words) for language, text in _CELLS.items()}
