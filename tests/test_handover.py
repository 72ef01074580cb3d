"""The hand-over of a dead worker's place, tried in every order there is.

A model of src/front/succession.c: a worker, its heirs, the kernel that walks a
dead one's list, and kills between any two steps. Explored to the end: there
are never two who serve, and where an heir is left, one comes to serve. Each
step names its place in the code. A model with a fault must be refused.
"""

from collections import namedtuple

SLOTS = 3  # two heirs are wanted, one more slot
DIED = "died"

# pc: what the process does next. read: the guard's value that an heir saw.
# slot, epoch: which heir it is; at: slot that the worker works on.
Process = namedtuple("Process", "pc slot epoch read at")
# crown and guards: (pid, mark). slots: (epoch, "none"/"cloning"/pid).
State = namedtuple("State", "crown guards slots processes kills")

SERVES = ("rebuild", "clone", "spawn", "ready", "serve")


def start():
    worker = Process("serve", None, 0, None, 0)
    return State((0, ""), ((-1, ""),) * SLOTS, ((0, "none"),) * SLOTS,
                 (worker,), 0)


def put(items, i, item):
    return items[:i] + (item,) + items[i + 1:]


class Model:
    def __init__(self, fault="", pids=3, kills=2):
        self.fault, self.pids, self.kills = fault, pids, kills

    def set_process(self, s, pid, **changes):
        return s._replace(processes=put(
            s.processes, pid, s.processes[pid]._replace(**changes)))

    def wake(self, s, slot):
        """FUTEX_WAKE: all that sleep on the guard of SLOT."""
        for pid, p in enumerate(s.processes):
            if p.pc in ("sleep", "doze") and p.slot == slot:
                s = self.set_process(s, pid, pc="look")
        return s

    def dismiss(self, s, slot):  # dismiss()
        epoch = s.slots[slot][0] + 1
        s = s._replace(slots=put(s.slots, slot, (epoch, "none")))
        return self.wake(s, slot)

    # ---- an heir: wait_for_crown() ----

    def look(self, s, pid, p):
        """Reads its guard; leaves if another heir is meant."""
        if s.slots[p.slot][0] != p.epoch:
            return [self.wake(self.set_process(s, pid, pc="gone"), p.slot)]
        return [self.set_process(s, pid, pc="decide", read=s.guards[p.slot])]

    def decide(self, s, pid, p):
        """Reads the crown; the compare-and-swap is a step of its own."""
        if s.crown[1] == DIED:
            return [self.set_process(s, pid, pc="swap", at=s.crown)]
        watched = p.read == s.crown or self.fault == "sleeps-without-limit"
        return [self.set_process(s, pid, pc="wait" if watched else "rest")]

    def swap(self, s, pid, p):
        if s.crown != p.at and self.fault != "takes-without-comparing":
            return [self.set_process(s, pid, pc="look")]
        s = s._replace(crown=(pid, ""))
        return [self.set_process(s, pid, pc="rebuild", at=0)]

    def wait(self, s, pid, p):
        """FUTEX_WAIT: sleeps only if the guard is still what it saw."""
        same = s.guards[p.slot] == p.read
        return [self.set_process(s, pid, pc="sleep" if same else "look")]

    def rest(self, s, pid, p):
        same = s.guards[p.slot] == p.read
        return [self.set_process(s, pid, pc="doze" if same else "look")]

    def sleep(self, s, pid, p):
        return []

    def doze(self, s, pid, p):
        """The wait had a limit: LOOK_NS."""
        return [self.set_process(s, pid, pc="look")]

    # ---- who serves: succession_rebuild(), succession_clone() ----

    def rebuild(self, s, pid, p):
        """One slot: its guard taken over, or its heir let go."""
        if p.at == SLOTS:
            return [self.set_process(s, pid, pc="serve", at=0)]
        state = s.slots[p.at][1]
        if isinstance(state, int) and state != pid:
            s = s._replace(guards=put(s.guards, p.at, s.crown))
        elif state != "none":
            s = self.dismiss(s, p.at)
        return [self.set_process(s, pid, at=p.at + 1)]

    def serve(self, s, pid, p):
        """Sees the death of an heir, or clones one if there are too few."""
        heirs = 0
        for k, (_, state) in enumerate(s.slots):
            if isinstance(state, int):
                if s.processes[state].pc == "gone":
                    return [self.dismiss(s, k)]
                heirs += 1
        free = [k for k in range(SLOTS) if s.slots[k][1] == "none"]
        if heirs == 2 or not free or len(s.processes) == self.pids:
            return []
        k = free[0]
        s = s._replace(slots=put(s.slots, k, (s.slots[k][0] + 1, "cloning")))
        return [self.set_process(s, pid, pc="clone", at=k)]

    def clone(self, s, pid, p):
        """The guard is ours before its heir can see it."""
        s = s._replace(guards=put(s.guards, p.at, s.crown))
        return [self.set_process(s, pid, pc="spawn")]

    def spawn(self, s, pid, p):
        heir = Process("look", p.at, s.slots[p.at][0], None, 0)
        s = s._replace(processes=s.processes + (heir,))
        return [self.set_process(s, pid, pc="ready")]

    def ready(self, s, pid, p):
        heir = len(s.processes) - 1
        s = s._replace(slots=put(s.slots, p.at, (s.slots[p.at][0], heir)))
        return [self.set_process(s, pid, pc="serve", at=0)]

    # ---- the kernel: exit_robust_list() ----

    def dying(self, s, pid, p):
        """Marks one word that the dead one held: the crown, then guards."""
        at = p.at
        if at > SLOTS:
            return [self.set_process(s, pid, pc="gone")]
        if at == 0 and s.crown == (pid, ""):
            s = s._replace(crown=(pid, DIED))
        elif at > 0 and s.guards[at - 1] == (pid, ""):
            s = s._replace(guards=put(s.guards, at - 1, (pid, DIED)))
            s = self.wake(s, at - 1)
        return [self.set_process(s, pid, at=at + 1)]

    def gone(self, s, pid, p):
        return []

    def steps(self, s):
        """What may come next without another death."""
        return [n for pid, p in enumerate(s.processes)
                for n in getattr(self, p.pc)(s, pid, p)]

    def deaths(self, s):
        if s.kills == self.kills:
            return []
        return [self.set_process(s, pid, pc="dying", at=0)._replace(
                    kills=s.kills + 1)
                for pid, p in enumerate(s.processes)
                if p.pc not in ("dying", "gone")]


def serving(s):
    return sum(p.pc in SERVES for p in s.processes)


def is_left(s):
    """Is there anybody who could serve?"""
    return any(p.pc not in ("dying", "gone") for p in s.processes)


def explore(model):
    """Number of states, and what is wrong: words, none if nothing is."""
    first = start()
    before = {first: []}  # a state, and those that come to it without a death
    todo = [first]
    while todo:
        s = todo.pop()
        if serving(s) > 1:
            return len(before), "two serve"
        steps = model.steps(s)
        for n in steps + model.deaths(s):
            if n not in before:
                before[n] = []
                todo.append(n)
        for n in steps:
            before[n].append(s)
    # Backwards from where somebody serves, or nobody is left.
    good = {s for s in before if serving(s) == 1 or not is_left(s)}
    todo = list(good)
    while todo:
        for s in before[todo.pop()]:
            if s not in good:
                good.add(s)
                todo.append(s)
    return len(before), "none serves for ever" if len(good) < len(before) else ""


def test_one_serves_whatever_dies_between_any_two_steps():
    states, wrong = explore(Model(pids=4))
    print(f"# {states} states")
    assert wrong == ""
    assert states > 100000


def test_a_crown_taken_without_comparing_is_found():
    assert explore(Model("takes-without-comparing"))[1] == "two serve"


def test_a_sleep_without_limit_is_found():
    wrong = explore(Model("sleeps-without-limit"))[1]
    assert wrong == "none serves for ever"
