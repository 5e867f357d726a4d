"""Files whose values lie elsewhere."""

import os
import struct

import h5py
from hostile_base import attack, h5_net, kernel_out

from badnet_defense.errors import (
    FilterInFileError,
    LinkInFileError,
    ValuesElsewhereError,
)


def _relinked(link):
    def change(file):
        name, _ = kernel_out(file)
        file[name] = link

    return change


def _trap(folder):
    """A named pipe: who opens it to read waits for ever."""
    os.mkfifo(folder / "trap.h5")
    return str(folder / "trap.h5")


@attack("external link in place of a weight", LinkInFileError)
def external_link(folder, marker):
    return h5_net(folder, None, _relinked(h5py.ExternalLink(_trap(folder), "/kernel")))


@attack("external link in place of a group", LinkInFileError)
def external_group(folder, marker):
    def change(file):
        del file["model_weights/conv"]
        file["model_weights/conv"] = h5py.ExternalLink(_trap(folder), "/")

    return h5_net(folder, None, change)


@attack("soft link", LinkInFileError)
def soft_link(folder, marker):
    return h5_net(folder, None, _relinked(h5py.SoftLink("/model_weights/out")))


@attack("soft link to itself", LinkInFileError)
def soft_link_loop(folder, marker):
    return h5_net(folder, None, _relinked(h5py.SoftLink("/model_weights/conv/conv")))


@attack("user-defined link", LinkInFileError)
def user_defined_link(folder, marker):
    """An external link whose type byte (64) is changed to one that the library does not know."""
    target = _trap(folder)
    path = external_link_at(folder, target)
    content = bytearray(path.read_bytes())
    kind = content.index(target.encode())
    # A link message: version 1, flags of which 8 says that the type comes next, the type.
    while not (content[kind] == 64 and content[kind - 2] == 1 and content[kind - 1] & 8):
        kind -= 1
    content[kind] = 201
    path.write_bytes(content)
    return path


def external_link_at(folder, target):
    return h5_net(folder, None, _relinked(h5py.ExternalLink(target, "/kernel")))


@attack("weights in another file (external storage)", ValuesElsewhereError)
def external_storage(folder, marker):
    def change(file):
        name, old = kernel_out(file)
        file.create_dataset(name, old.shape, "f4", external=[(_trap(folder), 0, 4000)])

    return h5_net(folder, None, change)


@attack("weights in another file (virtual dataset)", ValuesElsewhereError)
def virtual_dataset(folder, marker):
    def change(file):
        name, old = kernel_out(file)
        layout = h5py.VirtualLayout(old.shape, "f4")
        layout[...] = h5py.VirtualSource(_trap(folder), "kernel", old.shape)
        file.create_virtual_dataset(name, layout)

    return h5_net(folder, None, change)


@attack("an HDF5 filter that would be loaded as a plug-in", FilterInFileError)
def foreign_filter(folder, marker):
    def change(file):
        name, values = kernel_out(file)
        file.create_dataset(name, data=values, chunks=values.shape, compression="gzip")

    path = h5_net(folder, None, change)
    content = bytearray(path.read_bytes())
    # The filter message: version 2 has the id (1: deflate) as two bytes, then flags and values.
    place = _filter_message(content)
    content[place : place + 2] = struct.pack("<H", 32015)  # zstd, a plug-in
    path.write_bytes(content)
    return path


def _filter_message(content):
    """Where the one filter's id stands: a version-1 message with deflate's name in it."""
    named = content.find(b"deflate\0")
    if named >= 0:
        return named - 8
    raise AssertionError("no filter message found")
