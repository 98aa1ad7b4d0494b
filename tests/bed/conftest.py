"""A bed that died says nothing about what was tested in it: it is started anew and the test is tried once more. Each time
is told at the end of the run, and noted in the results, which scripts/lib/count_tests.py sums up.

QEMU 7.2's emulation of SVM loses the processor's state now and then while interrupts meet exits of guests: seen are a bed
that stands still, one that ends by a triple fault in kvm_amd right behind VMRUN, and guests that do ("third fault"); all of
them with two emulated processors, wherefore a bed has one."""

import pytest

from .bed import Bed, BedDead

restarts = []


def of_the_bed(failure, beds):
    """Whether the test failed because a bed died; one that dies in the middle may show as any failure."""
    return isinstance(failure, BedDead) or "third fault" in str(failure) or not all(bed.answers() for bed in beds)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    beds = [value for value in arguments.values() if isinstance(value, Bed)]
    if not beds:
        return None
    try:
        pyfuncitem.obj(**arguments)
    except Exception as failure:
        if not of_the_bed(failure, beds):
            raise
        note(pyfuncitem, failure)
        for bed in beds:
            bed.restart(f"in {pyfuncitem.name}: {failure}")
        pyfuncitem.obj(**arguments)
    return True


def note(item, failure):
    restarts.append((item.name, str(failure)))
    item.user_properties.append(("bed_restarted", str(failure).splitlines()[0]))


def pytest_terminal_summary(terminalreporter):
    for name, why in restarts:
        terminalreporter.write_line(f"BED RESTARTED in {name}: {why}")
