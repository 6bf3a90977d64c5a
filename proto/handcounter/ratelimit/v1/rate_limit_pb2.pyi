from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_ADMITTED: _ClassVar[Reason]
    REASON_TOO_SOON: _ClassVar[Reason]
    REASON_PAUSED: _ClassVar[Reason]
    REASON_DUPLICATE: _ClassVar[Reason]
    REASON_LATE: _ClassVar[Reason]

class FpsSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FPS_SOURCE_UNSPECIFIED: _ClassVar[FpsSource]
    FPS_SOURCE_OVERRIDE: _ClassVar[FpsSource]
    FPS_SOURCE_WILDCARD: _ClassVar[FpsSource]
    FPS_SOURCE_DEFAULT: _ClassVar[FpsSource]
    FPS_SOURCE_PATTERN: _ClassVar[FpsSource]
    FPS_SOURCE_BOOST: _ClassVar[FpsSource]

class Pacing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACING_UNSPECIFIED: _ClassVar[Pacing]
    PACING_GCRA: _ClassVar[Pacing]
    PACING_MIN_GAP: _ClassVar[Pacing]

class RedisState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REDIS_STATE_UNSPECIFIED: _ClassVar[RedisState]
    REDIS_STATE_TRACKING: _ClassVar[RedisState]
    REDIS_STATE_POLLING: _ClassVar[RedisState]
    REDIS_STATE_AWAY: _ClassVar[RedisState]
REASON_UNSPECIFIED: Reason
REASON_ADMITTED: Reason
REASON_TOO_SOON: Reason
REASON_PAUSED: Reason
REASON_DUPLICATE: Reason
REASON_LATE: Reason
FPS_SOURCE_UNSPECIFIED: FpsSource
FPS_SOURCE_OVERRIDE: FpsSource
FPS_SOURCE_WILDCARD: FpsSource
FPS_SOURCE_DEFAULT: FpsSource
FPS_SOURCE_PATTERN: FpsSource
FPS_SOURCE_BOOST: FpsSource
PACING_UNSPECIFIED: Pacing
PACING_GCRA: Pacing
PACING_MIN_GAP: Pacing
REDIS_STATE_UNSPECIFIED: RedisState
REDIS_STATE_TRACKING: RedisState
REDIS_STATE_POLLING: RedisState
REDIS_STATE_AWAY: RedisState

class ShouldProcessRequest(_message.Message):
    __slots__ = ("stream_name", "ts", "dry_run", "known_limits_only")
    STREAM_NAME_FIELD_NUMBER: _ClassVar[int]
    TS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    KNOWN_LIMITS_ONLY_FIELD_NUMBER: _ClassVar[int]
    stream_name: str
    ts: float
    dry_run: bool
    known_limits_only: bool
    def __init__(self, stream_name: _Optional[str] = ..., ts: _Optional[float] = ..., dry_run: _Optional[bool] = ..., known_limits_only: _Optional[bool] = ...) -> None: ...

class ShouldProcessResponse(_message.Message):
    __slots__ = ("should_process", "reason", "fps", "fps_source", "stale", "next_ts", "limit_unread")
    SHOULD_PROCESS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    FPS_SOURCE_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    NEXT_TS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_UNREAD_FIELD_NUMBER: _ClassVar[int]
    should_process: bool
    reason: Reason
    fps: float
    fps_source: FpsSource
    stale: bool
    next_ts: float
    limit_unread: bool
    def __init__(self, should_process: _Optional[bool] = ..., reason: _Optional[_Union[Reason, str]] = ..., fps: _Optional[float] = ..., fps_source: _Optional[_Union[FpsSource, str]] = ..., stale: _Optional[bool] = ..., next_ts: _Optional[float] = ..., limit_unread: _Optional[bool] = ...) -> None: ...

class ShouldProcessBatchRequest(_message.Message):
    __slots__ = ("stream_names", "ts", "dry_run", "known_limits_only")
    STREAM_NAMES_FIELD_NUMBER: _ClassVar[int]
    TS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    KNOWN_LIMITS_ONLY_FIELD_NUMBER: _ClassVar[int]
    stream_names: _containers.RepeatedScalarFieldContainer[str]
    ts: _containers.RepeatedScalarFieldContainer[float]
    dry_run: bool
    known_limits_only: bool
    def __init__(self, stream_names: _Optional[_Iterable[str]] = ..., ts: _Optional[_Iterable[float]] = ..., dry_run: _Optional[bool] = ..., known_limits_only: _Optional[bool] = ...) -> None: ...

class ShouldProcessBatchResponse(_message.Message):
    __slots__ = ("should_process", "reasons", "fps", "next_ts", "stale", "unread_limits")
    SHOULD_PROCESS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    UNREAD_LIMITS_FIELD_NUMBER: _ClassVar[int]
    should_process: _containers.RepeatedScalarFieldContainer[bool]
    reasons: _containers.RepeatedScalarFieldContainer[Reason]
    fps: _containers.RepeatedScalarFieldContainer[float]
    next_ts: _containers.RepeatedScalarFieldContainer[float]
    stale: bool
    unread_limits: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, should_process: _Optional[_Iterable[bool]] = ..., reasons: _Optional[_Iterable[_Union[Reason, str]]] = ..., fps: _Optional[_Iterable[float]] = ..., next_ts: _Optional[_Iterable[float]] = ..., stale: _Optional[bool] = ..., unread_limits: _Optional[_Iterable[int]] = ...) -> None: ...

class ShouldProcessSessionRequest(_message.Message):
    __slots__ = ("stream_names", "ts", "leased_denials", "known_limits_only")
    STREAM_NAMES_FIELD_NUMBER: _ClassVar[int]
    TS_FIELD_NUMBER: _ClassVar[int]
    LEASED_DENIALS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_LIMITS_ONLY_FIELD_NUMBER: _ClassVar[int]
    stream_names: _containers.RepeatedScalarFieldContainer[str]
    ts: _containers.RepeatedScalarFieldContainer[float]
    leased_denials: _containers.RepeatedCompositeFieldContainer[LeasedDenials]
    known_limits_only: bool
    def __init__(self, stream_names: _Optional[_Iterable[str]] = ..., ts: _Optional[_Iterable[float]] = ..., leased_denials: _Optional[_Iterable[_Union[LeasedDenials, _Mapping]]] = ..., known_limits_only: _Optional[bool] = ...) -> None: ...

class LeasedDenials(_message.Message):
    __slots__ = ("stream_name", "too_soon", "paused", "duplicate", "late", "last_ts", "last_reason", "age_seconds")
    STREAM_NAME_FIELD_NUMBER: _ClassVar[int]
    TOO_SOON_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    LAST_TS_FIELD_NUMBER: _ClassVar[int]
    LAST_REASON_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    stream_name: str
    too_soon: int
    paused: int
    duplicate: int
    late: int
    last_ts: float
    last_reason: Reason
    age_seconds: float
    def __init__(self, stream_name: _Optional[str] = ..., too_soon: _Optional[int] = ..., paused: _Optional[int] = ..., duplicate: _Optional[int] = ..., late: _Optional[int] = ..., last_ts: _Optional[float] = ..., last_reason: _Optional[_Union[Reason, str]] = ..., age_seconds: _Optional[float] = ...) -> None: ...

class ShouldProcessSessionResponse(_message.Message):
    __slots__ = ("answers", "dropped_leases")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_LEASES_FIELD_NUMBER: _ClassVar[int]
    answers: SessionAnswers
    dropped_leases: DroppedLeases
    def __init__(self, answers: _Optional[_Union[SessionAnswers, _Mapping]] = ..., dropped_leases: _Optional[_Union[DroppedLeases, _Mapping]] = ...) -> None: ...

class SessionAnswers(_message.Message):
    __slots__ = ("should_process", "reasons", "fps", "next_ts", "last_ts", "stale", "unread_limits")
    SHOULD_PROCESS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TS_FIELD_NUMBER: _ClassVar[int]
    LAST_TS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    UNREAD_LIMITS_FIELD_NUMBER: _ClassVar[int]
    should_process: _containers.RepeatedScalarFieldContainer[bool]
    reasons: _containers.RepeatedScalarFieldContainer[Reason]
    fps: _containers.RepeatedScalarFieldContainer[float]
    next_ts: _containers.RepeatedScalarFieldContainer[float]
    last_ts: _containers.RepeatedScalarFieldContainer[float]
    stale: bool
    unread_limits: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, should_process: _Optional[_Iterable[bool]] = ..., reasons: _Optional[_Iterable[_Union[Reason, str]]] = ..., fps: _Optional[_Iterable[float]] = ..., next_ts: _Optional[_Iterable[float]] = ..., last_ts: _Optional[_Iterable[float]] = ..., stale: _Optional[bool] = ..., unread_limits: _Optional[_Iterable[int]] = ...) -> None: ...

class DroppedLeases(_message.Message):
    __slots__ = ("stream_names", "all_streams")
    STREAM_NAMES_FIELD_NUMBER: _ClassVar[int]
    ALL_STREAMS_FIELD_NUMBER: _ClassVar[int]
    stream_names: _containers.RepeatedScalarFieldContainer[str]
    all_streams: bool
    def __init__(self, stream_names: _Optional[_Iterable[str]] = ..., all_streams: _Optional[bool] = ...) -> None: ...

class WatchLimitsRequest(_message.Message):
    __slots__ = ("stream_names", "source_fps", "dropped_stream_names")
    STREAM_NAMES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FPS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_STREAM_NAMES_FIELD_NUMBER: _ClassVar[int]
    stream_names: _containers.RepeatedScalarFieldContainer[str]
    source_fps: _containers.RepeatedScalarFieldContainer[float]
    dropped_stream_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, stream_names: _Optional[_Iterable[str]] = ..., source_fps: _Optional[_Iterable[float]] = ..., dropped_stream_names: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchLimitsResponse(_message.Message):
    __slots__ = ("limits", "stale", "pacing", "shadow")
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    PACING_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    limits: _containers.RepeatedCompositeFieldContainer[StreamLimit]
    stale: bool
    pacing: Pacing
    shadow: bool
    def __init__(self, limits: _Optional[_Iterable[_Union[StreamLimit, _Mapping]]] = ..., stale: _Optional[bool] = ..., pacing: _Optional[_Union[Pacing, str]] = ..., shadow: _Optional[bool] = ...) -> None: ...

class StreamLimit(_message.Message):
    __slots__ = ("stream_name", "fps", "fps_source", "invalid_value", "limit_unread", "pattern", "boost_until", "after_boost")
    STREAM_NAME_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    FPS_SOURCE_FIELD_NUMBER: _ClassVar[int]
    INVALID_VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_UNREAD_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    BOOST_UNTIL_FIELD_NUMBER: _ClassVar[int]
    AFTER_BOOST_FIELD_NUMBER: _ClassVar[int]
    stream_name: str
    fps: float
    fps_source: FpsSource
    invalid_value: str
    limit_unread: bool
    pattern: str
    boost_until: float
    after_boost: StreamLimit
    def __init__(self, stream_name: _Optional[str] = ..., fps: _Optional[float] = ..., fps_source: _Optional[_Union[FpsSource, str]] = ..., invalid_value: _Optional[str] = ..., limit_unread: _Optional[bool] = ..., pattern: _Optional[str] = ..., boost_until: _Optional[float] = ..., after_boost: _Optional[_Union[StreamLimit, _Mapping]] = ...) -> None: ...

class ListStreamsRequest(_message.Message):
    __slots__ = ("name_prefix", "page_size", "page_token")
    NAME_PREFIX_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    name_prefix: str
    page_size: int
    page_token: str
    def __init__(self, name_prefix: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListStreamsResponse(_message.Message):
    __slots__ = ("streams", "next_page_token")
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    streams: _containers.RepeatedCompositeFieldContainer[StreamStatus]
    next_page_token: str
    def __init__(self, streams: _Optional[_Iterable[_Union[StreamStatus, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class StreamStatus(_message.Message):
    __slots__ = ("stream_name", "fps", "fps_source", "invalid_value", "stale", "admitted", "denied", "achieved_fps", "speed", "last_reason", "last_ts", "next_ts", "clock_restarts", "clock_jumps", "source_fps", "limit_unread", "pattern", "boost_until")
    STREAM_NAME_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    FPS_SOURCE_FIELD_NUMBER: _ClassVar[int]
    INVALID_VALUE_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    DENIED_FIELD_NUMBER: _ClassVar[int]
    ACHIEVED_FPS_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    LAST_REASON_FIELD_NUMBER: _ClassVar[int]
    LAST_TS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_JUMPS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FPS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_UNREAD_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    BOOST_UNTIL_FIELD_NUMBER: _ClassVar[int]
    stream_name: str
    fps: float
    fps_source: FpsSource
    invalid_value: str
    stale: bool
    admitted: int
    denied: int
    achieved_fps: float
    speed: float
    last_reason: Reason
    last_ts: float
    next_ts: float
    clock_restarts: int
    clock_jumps: int
    source_fps: float
    limit_unread: bool
    pattern: str
    boost_until: float
    def __init__(self, stream_name: _Optional[str] = ..., fps: _Optional[float] = ..., fps_source: _Optional[_Union[FpsSource, str]] = ..., invalid_value: _Optional[str] = ..., stale: _Optional[bool] = ..., admitted: _Optional[int] = ..., denied: _Optional[int] = ..., achieved_fps: _Optional[float] = ..., speed: _Optional[float] = ..., last_reason: _Optional[_Union[Reason, str]] = ..., last_ts: _Optional[float] = ..., next_ts: _Optional[float] = ..., clock_restarts: _Optional[int] = ..., clock_jumps: _Optional[int] = ..., source_fps: _Optional[float] = ..., limit_unread: _Optional[bool] = ..., pattern: _Optional[str] = ..., boost_until: _Optional[float] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "settings", "redis_state", "fps_table_age_seconds", "stream_count", "redis_problem", "pattern_count", "boost_count")
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    REDIS_STATE_FIELD_NUMBER: _ClassVar[int]
    FPS_TABLE_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STREAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    REDIS_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    PATTERN_COUNT_FIELD_NUMBER: _ClassVar[int]
    BOOST_COUNT_FIELD_NUMBER: _ClassVar[int]
    version: str
    settings: _containers.ScalarMap[str, str]
    redis_state: RedisState
    fps_table_age_seconds: float
    stream_count: int
    redis_problem: str
    pattern_count: int
    boost_count: int
    def __init__(self, version: _Optional[str] = ..., settings: _Optional[_Mapping[str, str]] = ..., redis_state: _Optional[_Union[RedisState, str]] = ..., fps_table_age_seconds: _Optional[float] = ..., stream_count: _Optional[int] = ..., redis_problem: _Optional[str] = ..., pattern_count: _Optional[int] = ..., boost_count: _Optional[int] = ...) -> None: ...
