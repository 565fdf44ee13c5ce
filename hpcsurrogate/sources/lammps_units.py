"""What LAMMPS's styles of units count the quantities of a fluid's law in (its command `units`)."""

UNITS = {
    style: dict(zip(("density", "temperature", "velocity_gradient", "stress"), names, strict=True))
    for style, names in {
        "lj": ("m/sigma^3", "epsilon/k", "1/tau", "epsilon/sigma^3"),
        "real": ("g/cm^3", "K", "1/fs", "atm"),
        "metal": ("g/cm^3", "K", "1/ps", "bar"),
        "si": ("kg/m^3", "K", "1/s", "Pa"),
        "electron": ("amu/Bohr^3", "K", "1/fs", "Pa"),
    }.items()
}
