"""Cardea puts a WSGI application on the network: see cardea-wsgi(7).

An application needs nothing of this. One that holds things which copies of it
must not share (connections, random generators of its own) may say what to do
when a copy is made and when it ends:

    @cardea.before_fork     in the warm parent, before each copy
    @cardea.after_fork      in the copy, before its first call
    @cardea.retire          in the copy, after its last call
"""

__version__ = "0.1.0"
__all__ = ["before_fork", "after_fork", "retire"]

_before_fork, _after_fork, _retire = [], [], []


def before_fork(function):
    """FUNCTION() runs in the warm parent before each copy is made."""
    _before_fork.append(function)
    return function


def after_fork(function):
    """FUNCTION() runs in each copy before its first call. What it raises ends
    the copy."""
    _after_fork.append(function)
    return function


def retire(function):
    """FUNCTION() runs in a copy after its last call, if it ends in order: not
    when it is killed."""
    _retire.append(function)
    return function
