"""What the programs are linked from, as CycloneDX 1.5: every crate, its checksum, its licence, and what it needs; and the C library
that `stockade` has in it (docs/adr/0019)."""

import json
import subprocess
import sys
import tomllib
import uuid

SERVED = ["--filter-platform", "x86_64-unknown-linux-gnu"]
metadata = json.loads(
    subprocess.run(["cargo", "metadata", "--format-version=1", "--locked", *SERVED], stdout=subprocess.PIPE, check=True).stdout
)
with open("Cargo.lock", "rb") as file:
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(file)["package"]}
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
own = next(p["id"] for p in metadata["packages"] if p["name"] == "stockade" and p["source"] is None)


def linked(node):
    """What is compiled in: neither for tests nor for the build alone."""
    return sorted(d["pkg"] for d in nodes[node]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"]))


def reference(node):
    return "pkg:cargo/{name}@{version}".format(**packages[node])


def component(node):
    package = packages[node]
    found = {
        "type": "library",
        "bom-ref": reference(node),
        "name": package["name"],
        "version": package["version"],
        "purl": reference(node),
    }
    if package["license"]:
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum := checksums.get((package["name"], package["version"])):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


def libc():
    """glibc, as getconf(1) names it: `glibc 2.36`."""
    name, version = subprocess.run(["getconf", "GNU_LIBC_VERSION"], stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    purl = f"pkg:generic/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [{"expression": "LGPL-2.1-or-later"}],
        "description": "linked statically into stockade",
    }


reached, left = set(), [own]
while left:
    node = left.pop()
    if node not in reached:
        reached.add(node)
        left += linked(node)

ordered = sorted(reached, key=reference)
content = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {"component": {**component(own), "type": "application"}},
    "components": [component(node) for node in ordered if node != own] + [libc()],
    "dependencies": [{"ref": reference(n), "dependsOn": sorted({reference(d) for d in linked(n)})} for n in ordered],
}
# By what it says, so that the same sources have the same one.
serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
content["serialNumber"] = f"urn:uuid:{serial}"
json.dump(content, sys.stdout, indent=1, sort_keys=True)
print()
