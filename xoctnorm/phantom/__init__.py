"""A serial-section OCT volume whose truth is known: a folded brain in agarose."""

import json
from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, DTypeLike

from xoctnorm.errors import raise_problems
from xoctnorm.phantom.anatomy import AGAROSE, EMPTY, GREY_MATTER, WHITE_MATTER, GivenAnatomy, WavyBrain
from xoctnorm.phantom.dataset import make_dataset
from xoctnorm.phantom.parameters import parameter_problems
from xoctnorm.phantom.plane import SPECULAR_LEVEL
from xoctnorm.phantom.plane import make_plane as _make_plane  # noqa: F401  (for its test)
from xoctnorm.phantom.series import Stream, rng_of
from xoctnorm.phantom.series import lay_out as _lay_out

__all__ = ["AGAROSE", "EMPTY", "GREY_MATTER", "SPECULAR_LEVEL", "WHITE_MATTER", "make_phantom"]


def make_phantom(
    *,
    shape: tuple[int, int] = (128, 160),
    n_sections: int = 12,
    planes_per_section: int | Sequence[int] = 10,
    missing_sections: Sequence[int] = (),
    section_gain: float | Sequence[float] = 0.2,
    plane_jitter: float | Sequence[float] = 0.02,
    decay: float | tuple[float, float] = 0.05,
    agarose: float = 0.06,
    grey: float = 0.2,
    white: float = 0.4,
    noise_floor: float = 0.01,
    looks: float | None = 6.0,
    specular_planes: Sequence[int] = (),
    margin: int = 0,
    voxel_size: tuple[float, float, float] = (10.0, 20.0, 20.0),
    dtype: DTypeLike = "float32",
    seed: int = 0,
    focus: float | None = None,
    rayleigh_range: float | None = None,
    focus_wander: float = 0.0,
    tilt: tuple[float, float] = (0.0, 0.0),
    tile_gain: tuple[float, float] = (1.0, 1.0),
    overlap: int = 0,
    blend: int = 0,
    agarose_steps: float | Sequence[float] = 0.0,
    no_agarose_sections: Sequence[int] = (),
    lesions: int = 0,
    torn_sections: Sequence[int] = (),
    bubble_planes: Sequence[int] = (),
    intensity: Literal["linear", "amplitude", "db"] = "linear",
    dynamic_range: float = 40.0,
    anatomy: ArrayLike | None = None,
) -> xr.Dataset:
    """Make a serial-section OCT volume together with every truth that it was made from.

    The linear intensity of a voxel of section ``s`` in plane ``z`` is::

        signal = section_gain[s] * plane_jitter[z] * instrument_response * tile_gain * attenuation * reflectivity
        volume = (signal + noise_floor) * speckle

    where ``attenuation`` is ``exp(-decay * depth[z])`` on tissue and 1 on agarose, and ``speckle`` follows a
    gamma distribution of mean 1 and variance ``1 / looks``, independent between voxels. The signal of agarose
    is multiplied by ``agarose_step[s]`` too. Specular spots replace the intensity by ``SPECULAR_LEVEL``; the
    margin is exactly 0. Focus, tilt, tiles and all that follows them below are off unless asked for.

    Parameters
    ----------
    shape : tuple of int
        Pixels along y and x, margin included. The field inside the margin has at least 16 × 16 pixels.
    n_sections : int
        Number of sections that were cut, lost ones included; labels are ``0`` to ``n_sections - 1``.
    planes_per_section : int or sequence of int
        Number of planes in each section; a sequence has one entry per section.
    missing_sections : sequence of int
        Labels of sections that were lost. Their planes are absent, but the anatomy goes on underneath:
        labels, z and anatomy jump. At least one section must be left.
    section_gain : float or sequence of float
        Standard deviation (at least 0) of the log of the gains, or the gains themselves (above 0), one per
        section.
    plane_jitter : float or sequence of float
        Standard deviation (at least 0) of the log of the jitter, or the factors themselves (above 0), one per
        plane.
    decay : float or tuple of float
        Decay per plane below the cut, at least 0: of all tissue, as if all above it were tissue too, while
        agarose does not decay; or ``(grey, white)``: then light is attenuated along its path, by the classes of
        the planes above in the same section at the same pixel. The plane itself does not attenuate its own
        light, so the first plane is free. Agarose below tissue is darkened, agarose and empty places pass all.
    agarose, grey, white : float
        Mean reflectivity of agarose, grey and white matter, 0 to 1, in fractions of full scale. Agarose is
        uniform; tissue has a weak, smooth texture.
    noise_floor : float
        Additive floor, 0 to 1, in fractions of full scale; neither gain nor depth acts on it.
    looks : float or None
        Number of looks, above 0: the speckle contrast is ``1 / sqrt(looks)``. None: no speckle.
    specular_planes : sequence of int
        Planes in which specular spots cover about 0.5 % of the field, far above full scale.
    margin : int
        Width in pixels of the empty border around the imaged field.
    voxel_size : tuple of float
        Spacing along z, y and x in micrometres, above 0.
    dtype : str or dtype
        ``"float16"``, ``"float32"`` or ``"float64"``: full scale is 1 and larger values are kept; ``"uint8"``
        or ``"uint16"``: full scale is the largest integer, values are rounded to nearest and saturate there.
    seed : int
        At least 0. What is random in a plane depends on the seed and on the number of the plane only.

    focus : float or None
        Depth of the focus in planes below the cut. The confocal response
        ``1 / (1 + ((depth - focus) / rayleigh_range)**2)`` [1]_ acts on agarose and tissue alike. None: 1.
    rayleigh_range : float or None
        Distance in planes at which the response has fallen to a half, above 0; given if and only if `focus` is.
    focus_wander : float
        Standard deviation of the focus from section to section in planes, at least 0.
    tilt : tuple of float
        Planes, along y and x, by which depth below the cut rises over the field. No pixel lies less deep than
        without tilt. Planes and anatomy stay flat; above the first plane lies tissue of its class.
    tile_gain : tuple of float
        Gains, above 0, of the left and the right half of the field.
    overlap : int
        Planes at the end of a section that show the same anatomy as the first planes of the next, less than
        any section has. z goes on counting; ``position`` tells the truth.
    blend : int
        Planes after each cut that are blends, made after stacking, less than any section has. In plane ``i`` of
        them the section has the share ``(i + 1) / (blend + 1)``; the rest is the section before, imaged with
        its own speckle that much deeper, where it has the same position. Nothing is blended after a lost section.
    agarose_steps : float or sequence of float
        Like `section_gain`, for the brightness of agarose alone: tissue does not follow.
    no_agarose_sections : sequence of int
        Labels of sections in which grey matter takes the place of agarose.
    lesions : int
        Number of spheroids, 4 to 10 planes long, in which tissue reflects 1.8 (the first, third, …) or 0.4
        times as much. The class stays.
    torn_sections : sequence of int
        Labels of sections that lack 20 to 40 % of the field on one side. What is torn off is empty: noise only.
    bubble_planes : sequence of int
        Planes in which empty discs cover about 3 % of the field.
    intensity : str
        ``"linear"``; ``"amplitude"``, its square root; or ``"db"``, ``10 * log10`` of it.
    dynamic_range : float
        Decibels below full scale, above 0, that are 0 in an integer volume in dB; its counts rise linearly with
        dB up to full scale, and their unit is 1. Float volumes are in plain dB, NaN where the
        linear intensity is 0, as in the margin.
    anatomy : array_like or None
        Classes, ``(n, y, x)`` with the y and x of the field, that take the place of the folded brain; along z
        each plane shows the nearest of the `n`. Not part of ``phantom_parameters``.

    Returns
    -------
    xarray.Dataset
        ``volume(z, y, x)``, with coordinates ``z``, ``y``, ``x`` in micrometres and ``section(z)``, with
        ``position(z)`` in micrometres where sections overlap, and its truth:

        - ``tissue_class(z, y, x)``, int8: 0 empty, 1 agarose, 2 grey matter, 3 white matter;
        - ``tissue_mask(z, y, x)`` and ``agarose_mask(z, y, x)``, bool: the same, as masks;
        - ``specular_mask``, ``damage_mask`` and ``lesion_mask(z, y, x)``, bool: specular spots; tears and bubbles;
          lesions;
        - ``reflectivity(z, y, x)``, float32: what a perfect correction returns, up to one constant factor;
        - ``attenuation(z, y, x)``, float32, or float64 like the volume;
        - ``plane(z)``: number of the plane in the whole series; ``depth(z)``: planes below the cut, from 0;
          ``depth_offset(y, x)``: what tilt adds to the depth;
        - ``section_gain(z)``, ``plane_jitter(z)``, ``agarose_step(z)``, ``tile_gain(x)``;
        - ``instrument_response(z)``, or ``(z, y, x)`` with tilt;
        - ``depth_response(z)``: the decay of tissue, of grey matter where there are two, without tilt;
        - ``blend_weight(z)``: the share of the section in its plane, else 1; ``blended_gain(z)``: its gain and that
          of the section before, in these shares. All other truth of a blended plane is of its own section;
        - the scalar ``noise_floor``.

        The attribute ``phantom_parameters`` holds all parameters as JSON.

    Raises
    ------
    InputError
        If any parameter is not as described; one message names all of them.

    Notes
    -----
    Planes are counted through the whole series, from 0, those of lost sections included; this holds for
    ``plane_jitter``, ``specular_planes``, ``bubble_planes`` and ``plane``.

    A plane that saturates is one of a large ``plane_jitter`` in an integer volume.

    References
    ----------
    .. [1] T. G. van Leeuwen, D. J. Faber, M. C. Aalders, "Measurement of the axial point spread function in
       scattering media using single-mode fiber-based optical coherence tomography", IEEE Journal of Selected
       Topics in Quantum Electronics 9(2), 227-233, 2003.

    Examples
    --------
    >>> phantom = make_phantom(n_sections=4, planes_per_section=5, missing_sections=[2])
    >>> phantom["volume"].sizes
    Frozen({'z': 15, 'y': 128, 'x': 160})
    >>> [int(label) for label in np.unique(phantom["section"])]
    [0, 1, 3]
    >>> grey = phantom["volume"].where(phantom["tissue_class"] == GREY_MATTER).mean(["y", "x"])
    >>> bool(grey[4] < grey[0])  # the last plane of the first section is darker than its first
    True
    """
    parameters = dict(locals())
    parameters["dtype"] = getattr(dtype, "__name__", str(dtype))  # np.uint8 is as good as "uint8"
    raise_problems("make_phantom", parameter_problems(parameters))
    del parameters["anatomy"]
    given = None
    if anatomy is not None:
        given = GivenAnatomy(np.asarray(anatomy, np.int8), WavyBrain.draw(rng_of(int(seed), Stream.ANATOMY)))
    made = make_dataset(_lay_out(parameters, given), parameters)
    record = json.dumps(parameters, default=lambda value: np.asarray(value).tolist())
    return made.assign_attrs(title="Serial-section OCT phantom", phantom_parameters=record)
