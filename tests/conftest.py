"""For all tests: signals are as a terminal would have them, whoever runs the tests in the background or under nohup.

What is ignored here would be ignored by every program that a test starts, and by the containers in it.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)
