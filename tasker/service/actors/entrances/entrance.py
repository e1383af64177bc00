"""The entrance of commands: a message on the bus becomes messages to actors, and one answer.

Any node takes a command and hands each item to the owner of its shard: to the actor here, or to the
node that owns the shard. An array is answered by an array in the same order once all its items are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import structlog

from tasker.bus.bus import Message
from tasker.bus.pull import Delivery
from tasker.errors import (
    BodyTooLarge,
    Busy,
    CommandRejected,
    NameInvalid,
    ScheduleUnknown,
    TaskerError,
    TemplateConflict,
    TemplateUnknown,
    Unavailable,
    VerbUnknown,
)
from tasker.events.bulk import PREVIEW
from tasker.events.codec import (
    BATCH_ITEMS_MAX,
    BODY_BYTES_MAX,
    INPUT_BYTES_MAX,
    decode_command,
    split_array,
)
from tasker.events.envelope import US_PER_S, Meta, StreamKind
from tasker.events.messages import (
    COMMANDS,
    HEADER_IDEMPOTENCY_KEY,
    HEADER_MESSAGE_ID,
    HEADER_TRACEPARENT,
    Accepted,
    BulkCreate,
    CircuitCommand,
    Command,
    ControlCommand,
    DeadLetterAdd,
    DeadLetterCommand,
    DeadLetterInvestigate,
    DeadLetterReopen,
    DeadLetterResolve,
    DeadLetterRetry,
    LimitCommand,
    OperatorCommand,
    ScheduleCommand,
    TaskCreate,
    TaskOperatorCommand,
    TaskRestart,
    TemplateRegister,
    TemplateUse,
)
from tasker.events.subjects import HEADER_TENANT, Subjects
from tasker.events.task_events import TemplateRef
from tasker.ids import (
    RESERVED_NAMESPACE,
    IdSource,
    check_name,
    control_stream_id,
    investigation_stream_id,
    restart_id_of,
    schedule_stream_id,
    task_id_of,
    template_stream_id,
    uuid8,
)
from tasker.service.actors.control_actor import ControlMessage
from tasker.service.actors.directory import TemplateDirectory
from tasker.service.actors.entrances.asked import Answer, Answers, Asked, Submitted
from tasker.service.actors.entrances.bulk_entrance import bulk_task_of
from tasker.service.actors.entrances.control_entrance import control_of
from tasker.service.actors.entrances.dead_letter_entrance import check_who, investigation_of, retry_of
from tasker.service.actors.entrances.requests import (
    check_create,
    check_use,
    creator_of,
    fingerprint_of,
    meta_of_command,
    request_hash_of,
    task_id_of_text,
    time_us_of,
    traceparent_of,
)
from tasker.service.actors.entrances.schedule_entrance import schedule_command
from tasker.service.actors.investigation_actor import InvestigationMessage, SubjectMessage
from tasker.service.actors.restarts import OriginalMessage, check_restart, restart_of
from tasker.service.actors.schedules.schedule_actor import ScheduleMessage
from tasker.service.actors.task_commands import Decided, decided_of
from tasker.service.actors.task_messages import CommandMessage, CreateMessage
from tasker.service.actors.template_actor import RegisterMessage
from tasker.service.domain.commands import CreateTask
from tasker.service.domain.dead_letters.investigation import InvestigationCommand, Subject
from tasker.service.domain.repairs.amend import checked_metadata
from tasker.service.domain.repairs.restart import Original
from tasker.service.domain.template_registry import RegisterTemplate, UseTemplate
from tasker.service.runtime.node_clock import NodeClock
from tasker.service.runtime.routes import HEADER_DEPTH, HEADER_OWN, HEADER_TASK_ID, HEADER_VERB, Routes, depth_of
from tasker.service.runtime.shards import Shards
from tasker.service.runtime.tenants import TenantRoom
from tasker.settings import Limits
from tasker.suggestions import did_you_mean
from tasker.templates import (
    CompiledTemplate,
    canonical_bytes,
    compile_template,
    differences,
    effective_version,
    validate,
)
from tasker.templates.built_in import BUILT_IN
from tasker.tracing import tracing_of_process
from tasker.weights import weights_of

_log = structlog.get_logger(__name__)


class Entrance:
    """Takes commands from the bus."""

    def __init__(  # noqa: PLR0917 - the parts it joins
        self,
        subjects: Subjects,
        shards: Shards,
        routes: Routes,
        directory: TemplateDirectory,
        put_blob: Callable[[bytes, bytes], Coroutine[Any, Any, None]],
        ids: IdSource,
        clock: NodeClock,
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._subjects = subjects
        self._shards = shards
        self._routes = routes
        self._directory = directory
        self._put_blob = put_blob
        self._ids = ids
        self._clock = clock
        self._tracing = tracing_of_process()
        self._under_way: set[asyncio.Task[None]] = set()
        self._room = TenantRoom(weights_of(self._limits.tenant_weights))
        self._idle = asyncio.Event()

    # ---------------------------------------------------------------- messages

    def on_command(self, message: Message) -> None:
        """Take a caller's message: one command or an array of them."""
        tenant, verb = self._subjects.parse_command(message.subject)
        respond = partial(self._routes.respond, message)
        self._take_message(tenant, verb, message.data, message.headers or {}, respond)

    def on_submitted(self, message: Delivery, respond: Answer) -> None:
        """Take a message from the stream of commands; `respond` gets its verdict, or the array of them.

        However often it is delivered it is one command: without a key its place in the stream names it.
        """
        tenant, verb = self._subjects.parse_submit(message.subject)
        identity = f"{self._subjects.command_stream}:{message.stream_seq}:{message.at_us}"
        submitted = Submitted(identity, message.at_us)
        self._take_message(tenant, verb, message.data, message.headers or {}, respond, submitted)

    def _take_message(  # noqa: PLR0917 - the facts of a message
        self,
        tenant: str,
        verb: str,
        data: bytes,
        headers: Mapping[str, str],
        respond: Answer,
        submitted: Submitted | None = None,
    ) -> None:
        key = headers.get(HEADER_IDEMPOTENCY_KEY) or headers.get(HEADER_MESSAGE_ID)
        traceparent = traceparent_of(headers.get(HEADER_TRACEPARENT))
        one = Asked(tenant, verb, data, key, traceparent, respond)
        one.submitted = submitted
        try:
            if len(data) > BODY_BYTES_MAX:
                raise BodyTooLarge(f"{len(data)} bytes are more than the {BODY_BYTES_MAX} of a command")
            if data.lstrip()[:1] != b"[":
                self._take(one)
                return
            items = split_array(data)
            if len(items) > BATCH_ITEMS_MAX:
                raise BodyTooLarge(f"{len(items)} items are more than the {BATCH_ITEMS_MAX} of an array")
        except CommandRejected as error:
            one.refuse(error)
            return
        if not items:
            respond(b"[]")
            return
        answers = Answers(len(items), respond)
        for index, item in enumerate(items):
            asked = Asked(tenant, verb, item, None, traceparent, answers.at(index))
            if submitted is not None:
                asked.submitted = Submitted(f"{submitted.identity}:{index}", submitted.at_us)
            self._take(asked)

    def on_forwarded(self, message: Message) -> None:
        """Take one command that another node found to belong to a shard of ours."""
        headers = message.headers or {}
        key = headers.get(HEADER_IDEMPOTENCY_KEY)
        respond = partial(self._routes.respond, message)
        tenant, verb = headers.get(HEADER_TENANT, ""), headers.get(HEADER_VERB, "")
        asked = Asked(tenant, verb, message.data, key, traceparent_of(headers.get(HEADER_TRACEPARENT)), respond)
        asked.depth, asked.is_own = depth_of(headers.get(HEADER_DEPTH)), HEADER_OWN in headers
        if HEADER_TASK_ID in headers:
            try:
                asked.task_id = task_id_of_text(headers[HEADER_TASK_ID])
            except CommandRejected as error:
                asked.refuse(error)
                return
        self._take(asked, forwarded=True)

    def take(self, asked: Asked) -> None:
        """Take one command of the service's own; its answer comes as everybody's."""
        self._take(asked)

    async def drain(self) -> None:
        """Return when nothing is under way; no new command may come in meanwhile."""
        if self._room.count:
            await self._idle.wait()

    # ---------------------------------------------------------------- one item

    def _take(self, asked: Asked, *, forwarded: bool = False) -> None:
        answer, tenant, room = asked.answer, asked.tenant, self._room
        has_room = room.enter(tenant, self._limits.commands_pending_max)
        self._idle.clear()

        def counted(data: bytes) -> None:
            room.leave(tenant)
            if not room.count:
                self._idle.set()
            answer(data)

        asked.answer = counted
        if self._tracing is not None:
            asked.trace(self._tracing)
        if not has_room:
            asked.refuse(Busy("too many commands are under way", retry_after_s=0.5))
            return
        try:
            check_name(asked.tenant, "tenant")
            self._handle(asked, decode_command(asked.body, _kind_of(asked.verb)), forwarded=forwarded)
        except TaskerError as error:
            asked.refuse(error)
        except Exception as error:  # noqa: BLE001 - one command must not take the entrance down
            _log.exception("command_failed", verb=asked.verb, exc_info=error)
            asked.refuse(TaskerError())

    def _handle(self, asked: Asked, command: Command, *, forwarded: bool) -> None:
        match command:
            case TaskCreate():
                self._create(asked, command, forwarded=forwarded)
            case TaskRestart():
                self._restart(asked, command, forwarded=forwarded)
            case TaskOperatorCommand():
                self._task_command(asked, command, decided_of(command), forwarded=forwarded)
            case TemplateRegister():
                self._spawn(asked, self._register(asked, command, forwarded=forwarded))
            case TemplateUse():
                check_use(command)
                use = UseTemplate(version=command.version, namespace=command.namespace, name=command.name)
                self._template_command(asked, command, command.namespace, command.name, use, forwarded=forwarded)
            case ScheduleCommand():
                self._schedule_command(asked, command, forwarded=forwarded)
            case DeadLetterRetry():
                check_who(command)
                self._task_command(asked, command, retry_of(command), forwarded=forwarded)
            case DeadLetterAdd() | DeadLetterInvestigate() | DeadLetterResolve() | DeadLetterReopen():
                self._investigate(asked, command, investigation_of(command), forwarded=forwarded)
            case ControlCommand() | LimitCommand() | CircuitCommand():
                self._control(asked, command, forwarded=forwarded)
            case BulkCreate():
                self._bulk(asked, command, forwarded=forwarded)
            case _:
                raise VerbUnknown(f"there is no command {asked.verb!r}")

    # ---------------------------------------------------------------- task.create

    def _create(self, asked: Asked, command: TaskCreate, *, forwarded: bool) -> None:
        if command.namespace == RESERVED_NAMESPACE:
            raise NameInvalid(f"tasks of the namespace {RESERVED_NAMESPACE!r} are the service's own: see `bulk.create`")
        self._start(asked, command, key=asked.key(command.idempotency_key), forwarded=forwarded)

    def _start(
        self,
        asked: Asked,
        command: TaskCreate,
        *,
        key: str | None,
        restarted_from: str | None = None,
        forwarded: bool,
    ) -> None:
        check_create(command)
        not_before_us = time_us_of(command.not_before, "/not_before")
        metadata = checked_metadata(command.metadata) if command.metadata else None
        canonical_input = _input_of(command)
        meta = meta_of_command(command, traceparent=asked.traceparent)

        def planned(plan: tuple[str, CompiledTemplate] | TaskerError) -> None:
            named_id = asked.task_id or self._task_id(asked, command, key, canonical_input, plan)
            task_id = named_id or self._ids.uuid7()
            shard = self._routes.shard_of(task_id)
            if not self._shards.owns(shard):
                header_key = None if command.idempotency_key else key
                self._forward(asked, shard, key=header_key, task_id=task_id, forwarded=forwarded)
                return
            request_hash = request_hash_of(command, canonical_input)
            message = CreateMessage(
                tenant=asked.tenant,
                request_hash=request_hash,
                plan=plan
                if isinstance(plan, TaskerError)
                else _plan_of(
                    command,
                    plan,
                    key=key,
                    canonical_input=canonical_input,
                    request_hash=request_hash,
                    not_before_us=not_before_us,
                    metadata=metadata,
                    restarted_from=restarted_from,
                    depth=asked.depth,
                ),
                meta=meta,
                answered=asked.recorded(shard, str(task_id)),
                fail=asked.refuse,
                goes_on=asked.depth > 0,
                attached=asked.attached(shard) if restarted_from is None else None,
                debounced=asked.debounced() if restarted_from is None else None,
                planned=asked.planned(shard, task_id=restarted_from) if command.dry_run else None,
            )
            send = self._shards.send_first if named_id is None else self._shards.send
            send(shard, task_id, StreamKind.TASK, message)

        plan = self._plan_now(asked.tenant, command)
        if plan is not None:
            planned(plan)
        else:
            self._spawn(asked, self._plan_later(asked.tenant, command, planned))

    def _plan_now(self, tenant: str, command: TaskCreate) -> tuple[str, CompiledTemplate] | TaskerError | None:
        """Return version and content for a new task, or why there are none; None: it takes a wait."""
        if command.namespace == RESERVED_NAMESPACE:
            return BUILT_IN[command.template]
        registry = self._directory.registry_now(tenant, command.namespace, command.template)
        if registry is None:
            return None
        try:
            version, digest = registry.hash_of(command.version, command.namespace, command.template)
        except TemplateUnknown as error:
            return error
        compiled = self._directory.compiled_now(digest)
        return None if compiled is None else (version, compiled)

    async def _plan_later(
        self, tenant: str, command: TaskCreate, planned: Callable[[tuple[str, CompiledTemplate] | TaskerError], None]
    ) -> None:
        plan: tuple[str, CompiledTemplate] | TaskerError
        try:
            registry = await self._directory.registry(tenant, command.namespace, command.template)
            version, digest = registry.hash_of(command.version, command.namespace, command.template)
            plan = (version, await self._directory.compiled(digest))
        except TemplateUnknown as error:
            plan = error
        planned(plan)

    def _task_id(
        self,
        asked: Asked,
        command: TaskCreate,
        key: str | None,
        canonical_input: bytes,
        plan: tuple[str, CompiledTemplate] | TaskerError,
    ) -> UUID | None:
        """Return the task's id: from its input under `identity: strict`, else from the key; None: it is to be drawn."""
        if not isinstance(plan, TaskerError) and plan[1].spec.identity == "strict":
            bucket_s = plan[1].spec.identity_bucket_s
            at_us = self._clock.now_us() if asked.submitted is None else asked.submitted.at_us
            bucket = "" if bucket_s is None else str(at_us // round(bucket_s * US_PER_S))
            request = request_hash_of(command, canonical_input)
            return uuid8("strict", asked.tenant, command.namespace, command.template, request, bucket)
        if key is not None:
            return task_id_of(asked.tenant, command.namespace, command.template, key)
        return None

    # ---------------------------------------------------------------- other commands to tasks

    def _task_command(
        self,
        asked: Asked,
        command: TaskOperatorCommand | DeadLetterRetry,
        decided: Decided,
        *,
        forwarded: bool,
    ) -> None:
        task_id = task_id_of_text(command.task_id)
        command_id = self._command_id(asked, command)
        shard = self._routes.shard_of(task_id)
        if self._is_elsewhere(asked, shard, command, command_id, forwarded=forwarded):
            return
        message = CommandMessage(
            tenant=asked.tenant,
            command=decided,
            meta=_meta_of(asked, command, command_id),
            answered=asked.recorded(shard, str(task_id)),
            fail=asked.refuse,
            planned=asked.planned(shard, task_id=str(task_id)) if command.dry_run else None,
        )
        self._shards.send(shard, task_id, StreamKind.TASK, message)

    def _restart(self, asked: Asked, command: TaskRestart, *, forwarded: bool) -> None:
        """Ask the task what it was, then create the new one, which lies in the same shard."""
        check_restart(command)
        task_id = task_id_of_text(command.task_id)
        command_id = self._command_id(asked, command)
        shard = self._routes.shard_of(task_id)
        if self._is_elsewhere(asked, shard, command, command_id, forwarded=forwarded):
            return

        def known(original: Original) -> None:
            asked.task_id = restart_id_of(asked.tenant, task_id, command_id)
            create = restart_of(command, original)
            try:
                self._start(asked, create, key=None, restarted_from=str(task_id), forwarded=True)
            except TaskerError as error:
                asked.refuse(error)

        question = OriginalMessage(tenant=asked.tenant, answered=known, fail=asked.refuse)
        self._shards.send(shard, task_id, StreamKind.TASK, question)

    # ---------------------------------------------------------------- dead letters

    def _investigate(
        self, asked: Asked, command: DeadLetterCommand, decided: InvestigationCommand, *, forwarded: bool
    ) -> None:
        """Ask the task how it is, then its investigation, which lies in the same shard."""
        task_id = task_id_of_text(command.task_id)
        command_id = self._command_id(asked, command)
        shard = self._routes.shard_of(task_id)
        if self._is_elsewhere(asked, shard, command, command_id, forwarded=forwarded):
            return
        meta = _meta_of(asked, command, command_id)

        def known(subject: Subject) -> None:
            message = InvestigationMessage(
                tenant=asked.tenant,
                task_id=task_id,
                subject=subject,
                command=decided,
                meta=meta,
                answered=asked.recorded(shard, str(task_id)),
                fail=asked.refuse,
                planned=asked.planned(shard, task_id=str(task_id)) if command.dry_run else None,
            )
            stream_id = investigation_stream_id(asked.tenant, task_id)
            self._shards.send(shard, stream_id, StreamKind.INVESTIGATION, message)

        question = SubjectMessage(tenant=asked.tenant, step=command.step or "", answered=known, fail=asked.refuse)
        self._shards.send(shard, task_id, StreamKind.TASK, question)

    def _command_id(self, asked: Asked, command: OperatorCommand) -> str:
        return asked.key(command.command_id, name="command_id") or self._ids.token()

    # ---------------------------------------------------------------- templates

    async def _register(self, asked: Asked, command: TemplateRegister, *, forwarded: bool) -> None:
        spec = validate(command.template)
        compiled = compile_template(spec)
        if not command.dry_run:
            await self._put_blob(bytes.fromhex(compiled.hash), canonical_bytes(spec))
        self._directory.keep(compiled)
        register = RegisterTemplate(
            namespace=spec.namespace,
            name=spec.name,
            version=effective_version(spec),
            hash=compiled.hash,
            by_content=spec.version is None,
        )
        self._template_command(asked, command, spec.namespace, spec.name, register, forwarded=forwarded)

    def _template_command(
        self,
        asked: Asked,
        command: TemplateRegister | TemplateUse,
        namespace: str,
        name: str,
        decided: RegisterTemplate | UseTemplate,
        *,
        forwarded: bool,
    ) -> None:
        stream_id = template_stream_id(asked.tenant, namespace, name)
        command_id = self._command_id(asked, command)
        shard = self._routes.shard_of(stream_id)
        if self._is_elsewhere(asked, shard, command, command_id, forwarded=forwarded):
            return

        def answered(position: int, version: str, digest: str, *, duplicate: bool) -> None:
            template = {"namespace": namespace, "name": name, "version": version, "hash": digest}
            asked.accept(Accepted(ok=True, position=f"{shard}:{position}", duplicate=duplicate, template=template))

        def failed(error: TaskerError) -> None:
            if isinstance(error, TemplateConflict):
                self._spawn(asked, self._explain_conflict(asked, error))
            else:
                asked.refuse(error)

        message = RegisterMessage(
            tenant=asked.tenant,
            command=decided,
            meta=_meta_of(asked, command, command_id),
            answered=answered,
            fail=failed,
            planned=asked.planned(shard) if command.dry_run else None,
        )
        self._shards.send(shard, stream_id, StreamKind.TEMPLATE, message)

    async def _explain_conflict(self, asked: Asked, conflict: TemplateConflict) -> None:
        """Answer a conflict with what differs."""
        registered = await self._directory.compiled(conflict.context["registered_hash"])
        offered = await self._directory.compiled(conflict.context["offered_hash"])
        changes = differences(registered.spec, offered.spec)
        asked.refuse(TemplateConflict(f"{conflict.detail}: {'; '.join(changes)}", differences=list(changes)))

    # ---------------------------------------------------------------- schedules

    def _schedule_command(self, asked: Asked, command: ScheduleCommand, *, forwarded: bool) -> None:
        command_id = self._command_id(asked, command)
        decided = schedule_command(command, command_id)
        stream_id = schedule_stream_id(asked.tenant, command.namespace, command.name)
        shard = self._routes.shard_of(stream_id)
        if self._is_elsewhere(asked, shard, command, command_id, forwarded=forwarded):
            return
        schedule = {"namespace": command.namespace, "name": command.name}

        def answered(position: int, *, duplicate: bool, task_id: str | None) -> None:
            token = f"{shard}:{position}"
            asked.accept(Accepted(ok=True, task_id=task_id, position=token, duplicate=duplicate, schedule=schedule))

        def refused(error: TaskerError) -> None:
            # A stream without events does not know whose it would be.
            unknown = ScheduleUnknown(f"there is no schedule {command.namespace}/{command.name}")
            asked.refuse(unknown if isinstance(error, ScheduleUnknown) else error)

        message = ScheduleMessage(
            tenant=asked.tenant,
            command=decided,
            meta=_meta_of(asked, command, command_id),
            answered=answered,
            fail=refused,
            planned=asked.planned(shard, schedule=schedule) if command.dry_run else None,
        )
        self._shards.send(shard, stream_id, StreamKind.SCHEDULE, message)

    # ---------------------------------------------------------------- controls

    def _control(
        self, asked: Asked, command: ControlCommand | LimitCommand | CircuitCommand, *, forwarded: bool
    ) -> None:
        decided = control_of(asked.tenant, command)
        command_id = self._command_id(asked, command)
        stream_id = control_stream_id()
        shard = self._routes.shard_of(stream_id)
        if self._is_elsewhere(asked, shard, command, command_id, forwarded=forwarded):
            return
        message = ControlMessage(
            tenant=asked.tenant,
            command=decided,
            meta=_meta_of(asked, command, command_id),
            answered=asked.recorded(shard),
            fail=asked.refuse,
            planned=asked.planned(shard) if command.dry_run else None,
        )
        self._shards.send(shard, stream_id, StreamKind.CONTROL, message)

    # ---------------------------------------------------------------- bulks

    def _bulk(self, asked: Asked, command: BulkCreate, *, forwarded: bool) -> None:
        """Create the task that does it; a dry run is a matter of whoever reads the views."""
        create = bulk_task_of(command)
        if not command.dry_run:
            key = self._command_id(asked, command)
            self._start(asked, create, key=key, forwarded=forwarded)
            return

        self._routes.ask_views(PREVIEW, asked.tenant, bytes(create.input), asked.hand_back)

    # ---------------------------------------------------------------- ways out

    def _is_elsewhere(
        self, asked: Asked, shard: int, command: OperatorCommand, command_id: str, *, forwarded: bool
    ) -> bool:
        """Hand a command to the owner of its shard, where that is another node; returns whether it is."""
        if self._shards.owns(shard):
            return False
        self._forward(asked, shard, key=None if command.command_id else command_id, forwarded=forwarded)
        return True

    def _forward(
        self, asked: Asked, shard: int, *, key: str | None, task_id: UUID | None = None, forwarded: bool
    ) -> None:
        """Hand the command to the shard's owner, with what was drawn here, so that it stays one command.

        A key in the body stays there: it may hold what no header takes.
        """
        if forwarded:
            raise Unavailable(f"shard {shard} is changing its owner", retry_after_s=0.5)
        headers = {HEADER_TENANT: asked.tenant, HEADER_VERB: asked.verb}
        if key is not None:
            headers[HEADER_IDEMPOTENCY_KEY] = key
        if task_id is not None:
            headers[HEADER_TASK_ID] = str(task_id)
        if asked.traceparent is not None:
            headers[HEADER_TRACEPARENT] = asked.traceparent
        if asked.depth:
            headers[HEADER_DEPTH] = str(asked.depth)
        if asked.is_own:
            headers[HEADER_OWN] = "1"

        self._routes.ask_owner(shard, "cmd", asked.body, headers, asked.hand_back)

    def _spawn(self, asked: Asked, work: Coroutine[Any, Any, None]) -> None:
        """Run what has to wait; its refusal answers the command."""

        async def guarded() -> None:
            try:
                await work
            except TaskerError as error:
                asked.refuse(error)
            except Exception as error:  # noqa: BLE001 - one command must not take the entrance down
                _log.exception("command_failed", verb=asked.verb, exc_info=error)
                asked.refuse(TaskerError())

        task = asyncio.get_running_loop().create_task(guarded(), name=f"command {asked.verb}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


def _input_of(command: TaskCreate) -> bytes:
    """Return the input of a decoded command: a part of a canonical body, so canonical itself.

    Raises:
        BodyTooLarge: it is larger than an input may be.
    """
    data = bytes(command.input)
    if len(data) > INPUT_BYTES_MAX:
        raise BodyTooLarge(f"an input of {len(data)} bytes is more than the {INPUT_BYTES_MAX} allowed")
    return data


def _meta_of(asked: Asked, command: OperatorCommand, command_id: str) -> Meta:
    """Return who and what asked, and what tells a repetition of the command from another one with its id.

    Raises:
        BodyInvalid: it is more than is kept.
    """
    request = fingerprint_of(asked.verb, command)
    return meta_of_command(command, command_id=command_id, request=request, traceparent=asked.traceparent)


def _kind_of(verb: str) -> type[Command]:
    kind = COMMANDS.get(verb)
    if kind is None:
        hint = did_you_mean(verb, COMMANDS)
        raise VerbUnknown(f"there is no command {verb[:80]!r}{hint}; there are {', '.join(COMMANDS)}")
    return kind


def _plan_of(
    command: TaskCreate,
    found: tuple[str, CompiledTemplate],
    *,
    key: str | None,
    canonical_input: bytes,
    request_hash: str,
    not_before_us: int | None,
    metadata: msgspec.Raw | None,
    restarted_from: str | None,
    depth: int,
) -> Callable[[int], tuple[CompiledTemplate, CreateTask]]:
    """Return what makes the new task's command, once it is known that the task is new."""
    version, compiled = found

    def plan(at_us: int) -> tuple[CompiledTemplate, CreateTask]:
        if compiled.input_schema is not None:
            compiled.check_input(msgspec.json.decode(canonical_input))
        creator = creator_of(command, compiled) if compiled.knows_creator else None
        reference = TemplateRef(command.namespace, command.template, version, compiled.hash)
        return compiled, CreateTask(
            at_us=at_us,
            template=reference,
            input=msgspec.Raw(canonical_input),
            request_hash=request_hash,
            idempotency_key=key,
            tags=command.tags,
            metadata=metadata,
            restarted_from=restarted_from,
            not_before_us=not_before_us,
            timeout_s=command.timeout_s if command.timeout_s is not None else compiled.spec.timeout_s,
            created_by=creator,
            priority=compiled.spec.priority if command.priority is None else command.priority,
            depth=depth,
        )

    return plan
