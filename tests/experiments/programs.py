"""What a program prints when it is run in this process."""

import contextlib
import io


def run(main, config, workdir):
    """What ``main`` printed, on standard output and on standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main(config, workdir)
    return out.getvalue(), err.getvalue()
