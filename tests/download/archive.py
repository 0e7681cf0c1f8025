"""Makes a zip for the tests of download_dataset.sh.

archive.py ZIP NAME=FILE...    (NAME: path in the archive)
"""

import sys
import zipfile

with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as archive:
    for pair in sys.argv[2:]:
        name, _, path = pair.partition("=")
        archive.write(path, name)
