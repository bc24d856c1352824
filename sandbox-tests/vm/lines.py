"""Whether no line of the agents count-1 … count-N is lost, doubled or out of order: lines.py N AT_LEAST."""

import re
import subprocess
import sys

agents, least = int(sys.argv[1]), int(sys.argv[2])
shortest = None
for number in range(1, agents + 1):
    log = subprocess.run(["stockade", "logs", f"count-{number}"], capture_output=True, text=True, check=True).stdout
    counted = [int(found) for found in re.findall(r"^line (\d+)\r?$", log, re.MULTILINE)]
    if counted != list(range(1, len(counted) + 1)):
        wrong = next((at for at, seen in enumerate(counted) if seen != at + 1), None)
        sys.exit(f"count-{number}: line {wrong + 1} is {counted[wrong]}")
    shortest = min(len(counted), shortest or len(counted))
if shortest < least:
    sys.exit(f"the shortest log has {shortest} lines, which shows nothing")
print(f"{agents} logs, each without a gap, the shortest of {shortest} lines")
