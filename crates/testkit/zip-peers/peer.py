"""Python's zipfile as a peer: the same commands as main.go, see there."""

import os
import shutil
import stat
import struct
import sys
import time
import warnings
import zipfile
import zlib

os.environ["TZ"] = "UTC"
time.tzset()


def raw_name(info):
    """The bytes of a name: without the UTF-8 flag zipfile takes them for code page 437."""
    return info.filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")


def modified(info):
    """The Info-ZIP time where there is one, else DOS time as UTC."""
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 0x5455 and length >= 5 and extra[4] & 1:
            return struct.unpack_from("<i", extra, 5)[0]
        extra = extra[4 + length:]
    return int(time.mktime(info.date_time + (0, 0, 0)))


def list_entries(path):
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            size = crc = 0
            with archive.open(info) as content:
                # Reading to the end checks the entry's own sum and size.
                while block := content.read(1 << 20):
                    size += len(block)
                    crc = zlib.crc32(block, crc)
            mode = info.external_attr >> 16
            fields = (raw_name(info).hex(), mode, modified(info), size, crc)
            print("%s %o %d %d %08x" % fields)


def make(path, root):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for directory, directories, files in os.walk(root):
            directories.sort()
            for name in sorted(directories + files):
                add(archive, root, os.path.join(directory, name))


def add(archive, root, path):
    name = os.path.relpath(path, root)
    status = os.lstat(path)
    info = zipfile.ZipInfo(name, time.gmtime(status.st_mtime)[:6])
    info.external_attr = status.st_mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    if stat.S_ISLNK(status.st_mode):
        archive.writestr(info, os.fsencode(os.readlink(path)))
    elif stat.S_ISDIR(status.st_mode):
        info.filename += "/"
        info.compress_type = zipfile.ZIP_STORED
        archive.writestr(info, b"")
    else:
        # So that it knows whether Zip64 is needed.
        info.file_size = status.st_size
        with open(path, "rb") as file, archive.open(info, "w") as entry:
            shutil.copyfileobj(file, entry, 1 << 20)


def many(path, count):
    warnings.simplefilter("ignore")  # of names that are there already
    with zipfile.ZipFile(path, "w") as archive:
        for _ in range(int(count)):
            archive.writestr(zipfile.ZipInfo("many/"), b"")
        archive.writestr(zipfile.ZipInfo("last"), b"")


{"list": list_entries, "make": make, "many": many}[sys.argv[1]](*sys.argv[2:])
