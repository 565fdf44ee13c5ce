"""Meshes of hexahedra for tests, in memory and as files of OpenFOAM, whose geometry is known by hand."""

from pathlib import Path

import numpy as np

from hpcsurrogate.physics.cell_mesh import CellMesh, Patch

HEADER = 'FoamFile\n{{\n    version 2.0;\n    format {0};\n    class {1};\n    arch "LSB;label=32;scalar=64";\n}}\n'
SIDES = ("west", "east", "south", "north", "bottom", "top")


def box(edges, periodic=(), deform=None):
    """Points, corners (F, 4), owner, neighbour and patches of a box cut along three lists of coordinates.

    Cell (i, j, k) has number (i * ny + j) * nz + k. `periodic` are axes; `deform` moves the points (P, 3).
    """
    shape = [len(e) - 1 for e in edges]
    points = np.stack(np.meshgrid(*edges, indexing="ij"), -1).reshape(-1, 3)
    vertex = np.arange(len(points)).reshape([n + 1 for n in shape])
    cell = np.arange(np.prod(shape)).reshape(shape)
    inner, sides = [], []
    for axis in range(3):
        order = [axis, (axis + 1) % 3, (axis + 2) % 3]
        v, c = vertex.transpose(order), cell.transpose(order)
        quads = np.stack([v[:, :-1, :-1], v[:, 1:, :-1], v[:, 1:, 1:], v[:, :-1, 1:]], -1)
        inner.append((quads[1:-1].reshape(-1, 4), c[:-1].ravel(), c[1:].ravel()))
        sides += [(quads[0, ..., ::-1].reshape(-1, 4), c[0].ravel()), (quads[-1].reshape(-1, 4), c[-1].ravel())]
    corners = np.concatenate([part[0] for part in (*inner, *sides)])
    owner = np.concatenate([part[1] for part in (*inner, *sides)])
    neighbour = np.concatenate([part[2] for part in inner])
    patches, first = [], len(neighbour)
    for number, (name, (_, cells)) in enumerate(zip(SIDES, sides, strict=True)):
        is_periodic = number // 2 in periodic
        other = SIDES[number ^ 1] if is_periodic else None
        patches.append(Patch(name, "cyclic" if is_periodic else "wall", slice(first, first + len(cells)), other))
        first += len(cells)
    return (points if deform is None else deform(points)), corners, owner, neighbour, tuple(patches)


def box_mesh(edges, periodic=(), deform=None) -> CellMesh:
    """The mesh of `box`."""
    points, corners, owner, neighbour, patches = box(edges, periodic, deform)
    return CellMesh.of_faces(points, corners.ravel(), np.arange(len(corners) + 1) * 4, owner, neighbour, patches)


def write_case(folder: Path, edges, periodic=(), deform=None, style="ascii") -> Path:
    """Write constant/polyMesh of `box`, in ascii or binary."""
    points, corners, owner, neighbour, patches = box(edges, periodic, deform)
    mesh = folder / "constant" / "polyMesh"
    mesh.mkdir(parents=True)
    write_list(mesh / "points", points, style)
    write_list(mesh / "owner", owner, style)
    write_list(mesh / "neighbour", neighbour, style)
    if style == "ascii":
        faces = "\n".join("4(" + " ".join(map(str, face)) + ")" for face in corners)
        (mesh / "faces").write_text(HEADER.format(style, "faceList") + f"\n{len(corners)}\n(\n{faces}\n)\n")
    else:
        offsets = binary(np.arange(len(corners) + 1) * 4) + b"\n" + binary(corners.ravel())
        (mesh / "faces").write_bytes(HEADER.format(style, "faceCompactList").encode() + offsets + b"\n")
    entries = ""
    for patch in patches:
        size = patch.faces.stop - patch.faces.start
        other = f" neighbourPatch {patch.neighbour};" if patch.neighbour else ""
        entries += f"{patch.name} {{ type {patch.kind}; nFaces {size}; startFace {patch.faces.start};{other} }}\n"
    (mesh / "boundary").write_text(HEADER.format("ascii", "polyBoundaryMesh") + f"{len(patches)}\n(\n{entries})\n")
    return folder


def write_list(path: Path, values: np.ndarray, style="ascii") -> None:
    """Write a file that is one list of labels or vectors."""
    kind = "labelList" if values.ndim == 1 else "vectorField"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        HEADER.format(style, kind).encode() + b"\n" + (ascii_(values) if style == "ascii" else binary(values)) + b"\n"
    )


def write_velocity(path: Path, values: np.ndarray, conditions: str, style="ascii") -> None:
    """Write a vector field: (n, 3), or (3,) for a uniform one, and the text of its boundary conditions."""
    if values.ndim == 1:
        inner = f"uniform ({' '.join(map(repr, values.tolist()))})".encode()
    else:
        inner = b"nonuniform List<vector> " + (ascii_(values) if style == "ascii" else binary(values))
    path.parent.mkdir(parents=True, exist_ok=True)
    head = HEADER.format(style, "volVectorField") + "dimensions [0 1 -1 0 0 0 0];\ninternalField "
    path.write_bytes(head.encode() + inner + f";\nboundaryField\n{{\n{conditions}\n}}\n".encode())


def ascii_(values: np.ndarray) -> bytes:
    rows = ("(" + " ".join(map(repr, row)) + ")" if values.ndim > 1 else str(row) for row in values.tolist())
    return f"{len(values)}\n(\n".encode() + "\n".join(rows).encode() + b"\n)"


def binary(values: np.ndarray) -> bytes:
    return f"{len(values)}\n(".encode() + values.astype(np.float64 if values.ndim > 1 else np.int32).tobytes() + b")"
