"""Everything worth keeping of a call in one small archive."""

import tarfile

# What is left out first where the archive would be larger than this.
MOST_BYTES = 12 << 20


def write_archive(out):
    """Writes OUT/results.tar.gz: tables and results, then logs, curves and profiles as far as there is room.

    Returns its path and the names of files that were left out.
    """
    patterns = ("table.md", "*.json", "curves/*", "logs/*", "profiles/*/*.csv", "profiles/*/*")
    files, seen = [], set()
    for pattern in patterns:
        for path in sorted(out.glob(pattern)):
            if path.is_file() and path not in seen:
                seen.add(path)
                files.append(path)
    left_out, total = [], 0
    path = out / "results.tar.gz"
    partial = out / "results.tar.gz.partial"
    with tarfile.open(partial, "w:gz") as archive:
        for file in files:
            # Sizes before compression: text becomes smaller, never larger.
            total += file.stat().st_size
            if total > MOST_BYTES:
                total -= file.stat().st_size
                left_out.append(str(file.relative_to(out)))
                continue
            archive.add(file, arcname=f"results/{file.relative_to(out)}")
    partial.replace(path)
    return path, left_out
