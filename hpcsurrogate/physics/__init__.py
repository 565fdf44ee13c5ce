"""Grids, filters, Navier-Stokes hosts, classical closures, spectra and exact solutions."""
