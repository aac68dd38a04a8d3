"""Known vulnerabilities of the installed packages, as pip-audit finds them: exit 1 for any, and for nothing else.

A machine without a network, or whose package index has no such service, is told that nothing was audited: a check that
did not take place is neither passed nor failed.
"""

import json
import subprocess
import sys

LEFT_OUT = {"pip", "bertkit"}  # what installs the others, and ourselves


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    done = subprocess.run([*command, "--skip-editable"], capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        print(f"NOT AUDITED: no service to ask ({reason[:200]})")
        return 0
    packages = [package for package in packages if package["name"] not in LEFT_OUT]
    audited = [package for package in packages if "skip_reason" not in package]
    found = [(package, fault) for package in audited for fault in package["vulns"]]
    for package, fault in found:
        mended = ", ".join(fault["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {fault['id']}, mended in {mended}")
    skipped = len(packages) - len(audited)
    if not audited:
        print(f"NOT AUDITED: the package index knows nothing of vulnerabilities ({skipped} packages asked for)")
    else:
        print(f"{len(audited)} packages audited, {len(found)} known vulnerabilities; {skipped} could not be audited")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
