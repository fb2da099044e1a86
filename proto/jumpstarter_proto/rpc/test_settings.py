from __future__ import annotations

import pytest

from jumpstarter_proto.rpc._error_codes import ErrorCodes
from jumpstarter_proto.rpc._settings import PeerSettings, SettingCodes, SettingsFault, pack_settings


def test_settings_begin_with_the_defaults_and_take_what_the_peer_says() -> None:
    settings = PeerSettings()
    assert (settings.header_table_size, settings.initial_window_size, settings.max_frame_size) == (
        4096,
        65535,
        16384,
    )
    assert (settings.max_concurrent_streams, settings.max_header_list_size) == (None, None)
    settings.update(
        pack_settings(
            {
                SettingCodes.HEADER_TABLE_SIZE: 1,
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_CONCURRENT_STREAMS: 2,
                SettingCodes.INITIAL_WINDOW_SIZE: 3,
                SettingCodes.MAX_FRAME_SIZE: 20_000,
                SettingCodes.MAX_HEADER_LIST_SIZE: 5,
            }
        )
    )
    assert (settings.header_table_size, settings.max_concurrent_streams) == (1, 2)
    assert (settings.initial_window_size, settings.max_frame_size, settings.max_header_list_size) == (
        3,
        20_000,
        5,
    )


@pytest.mark.parametrize(
    ("code", "value", "error"),
    [
        (SettingCodes.ENABLE_PUSH, 2, ErrorCodes.PROTOCOL_ERROR),
        (SettingCodes.INITIAL_WINDOW_SIZE, 2**31, ErrorCodes.FLOW_CONTROL_ERROR),
        (SettingCodes.MAX_FRAME_SIZE, 2**14 - 1, ErrorCodes.PROTOCOL_ERROR),
        (SettingCodes.MAX_FRAME_SIZE, 2**24, ErrorCodes.PROTOCOL_ERROR),
    ],
)
def test_values_that_http2_forbids_are_faults(code: SettingCodes, value: int, error: ErrorCodes) -> None:
    settings = PeerSettings()
    with pytest.raises(SettingsFault) as caught:
        settings.update(pack_settings({code: value}))
    assert caught.value.code is error
    assert (settings.initial_window_size, settings.max_frame_size) == (65535, 16384)
