"""Digests of what a run's users had done when it began: steps read windows when they need them, and must read those."""

from __future__ import annotations

import pyarrow as pa

from lettingo_features.alignment.frame import Frame
from lettingo_features.home import Home
from lettingo_features.sql import connect
from lettingo_features.windows import WindowConfig, create_windows, window_digests


def digests_of(home: Home, frame: Frame, window: WindowConfig) -> pa.Table:
    """user_id, cutoff, window_digest by user: windows of explored and fit users at the reward's cutoff, of gate users
    at the gate's. Both segments count, for a judge reads the recent one even where the generator does not."""
    both = window.model_copy(update={"reads": "window"})
    judged = pa.concat_arrays([frame.explored, frame.fit])
    connection = connect(home.spill)
    tables = []
    for cutoff, users in ((frame.reward_cutoff, judged), (frame.gate_cutoff, frame.gate)):
        connection.register("frame_users", pa.table({"user_id": users}))
        theirs = f"(SELECT * FROM {home.scan('interactions')} SEMI JOIN frame_users USING (user_id))"
        create_windows(connection, theirs, [cutoff], both)
        digests = window_digests(connection).select("user_id", "cutoff", "window_digest")
        tables.append(digests.order("user_id").to_arrow_table())
    connection.close()
    return pa.concat_tables(tables).combine_chunks()


def n_changed(kept: pa.Table, found: pa.Table) -> int:
    """Users whose window differs between two `digests_of`; one who is in one alone counts."""
    connection = connect()
    connection.register("kept", kept)
    connection.register("found", found)
    ((changed,),) = connection.execute(
        """SELECT count(*) FROM kept FULL JOIN found USING (user_id, cutoff)
           WHERE kept.window_digest IS DISTINCT FROM found.window_digest"""
    ).fetchall()
    connection.close()
    return changed
