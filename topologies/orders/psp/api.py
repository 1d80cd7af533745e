"""The provider's HTTP API.

The one rule: it is as strict as a real one. A request that is not exactly right moves no money and says what is wrong.
"""

import asyncio
import csv
import hmac
import io
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from topologies.orders.money import CURRENCIES, LARGEST
from topologies.orders.psp.books import Books
from topologies.orders.psp.faults import Faults, Weather
from topologies.orders.psp.ledger import Ledger
from topologies.orders.psp.terms import Answer, Caller, Refused, Wish, complaint, iso

_LIMIT: Final = 16_384  # bytes of a request's body
_DAY: Final = 86_400_000
_COLUMNS: Final = ("number", "at", "kind", "payment_id", "order_id", "idempotency_key", "amount_minor", "currency")

Text = Annotated[str, Field(min_length=1, max_length=255)]
Minor = Annotated[int, Field(gt=0, le=LARGEST)]


class NewPayment(BaseModel):
    """A payment that is asked for; without `capture` the money is only set aside."""

    model_config = ConfigDict(extra="forbid", strict=True)
    order_id: Text
    customer_id: Text
    amount_minor: Minor
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    capture: bool = True


class Amount(BaseModel):
    """How much of a payment; all that is left of it if nothing is said."""

    model_config = ConfigDict(extra="forbid", strict=True)
    amount_minor: Minor | None = None


class Service:
    """The application. `asgi` is what a server runs; `keys` are its merchants' API keys."""

    def __init__(self, ledger: Ledger, keys: Sequence[str], faults: Faults) -> None:
        self._ledger = ledger
        self._merchants = [sha256(key.encode()).hexdigest() for key in keys]
        app = FastAPI(title="Payment provider", version="1", docs_url=None, redoc_url=None)
        self.asgi = Weather(app, faults)
        app.add_exception_handler(Refused, _refused)
        app.add_exception_handler(RequestValidationError, _invalid)
        app.add_exception_handler(HTTPException, _other)
        merchant = Annotated[str, Depends(self._merchant)]
        self._payments(app, merchant)
        self._moves(app, merchant)
        self._office(app, merchant)

    # -- payments -------------------------------------------------------------------------------------------------------

    def _payments(self, app: FastAPI, merchant: Any) -> None:
        ledger = self._ledger

        @app.post("/v1/payments", status_code=201)
        async def pay(wish: NewPayment, request: Request, caller: merchant, key: _Key) -> Response:
            if wish.currency not in CURRENCIES:
                raise Refused(400, "currency-unknown", f"{wish.currency} is no currency of ISO 4217.")
            who = _caller(caller, key, request, wish)
            return await self._once(who, lambda books: books.pay(who, Wish(**wish.model_dump())))

        @app.get("/v1/payments")
        def find(caller: merchant, idempotency_key: Annotated[str, Query(min_length=1, max_length=255)]) -> dict[str, Any]:
            with ledger.books() as books:
                return {"data": [payment.shown() for payment in books.by_key(caller, idempotency_key)]}

        @app.get("/v1/payments/{payment_id}")
        def show(payment_id: str, caller: merchant) -> dict[str, Any]:
            with ledger.books() as books:
                return books.payment(caller, payment_id).shown()

    def _moves(self, app: FastAPI, merchant: Any) -> None:
        @app.post("/v1/payments/{payment_id}/capture")
        async def capture(payment_id: str, amount: Amount, request: Request, caller: merchant, key: _Key) -> Response:
            who = _caller(caller, key, request, amount)
            return await self._once(who, lambda books: books.capture(books.payment(caller, payment_id), amount.amount_minor))

        @app.post("/v1/payments/{payment_id}/void")
        async def void(payment_id: str, request: Request, caller: merchant, key: _Key) -> Response:
            who = _caller(caller, key, request, None)
            return await self._once(who, lambda books: books.void(books.payment(caller, payment_id)))

        @app.post("/v1/payments/{payment_id}/refund")
        async def refund(payment_id: str, amount: Amount, request: Request, caller: merchant, key: _Key) -> Response:
            who = _caller(caller, key, request, amount)
            return await self._once(who, lambda books: books.refund(books.payment(caller, payment_id), amount.amount_minor))

    async def _once(self, caller: Caller, act: Callable[[Books], Answer]) -> Response:
        with self._ledger.alone(caller):
            await asyncio.sleep(self.asgi.faults.latency)
            answer = await asyncio.to_thread(self._ledger.once, caller, act)
        return JSONResponse(answer.page, answer.status, {"idempotent-replayed": "true"} if answer.replayed else None)

    # -- the rest -------------------------------------------------------------------------------------------------------

    def _office(self, app: FastAPI, merchant: Any) -> None:
        ledger, weather = self._ledger, self.asgi

        @app.get("/v1/statements/{day}")
        def statement(day: date, caller: merchant) -> Response:
            start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
            with ledger.books() as books:
                rows = [tuple(row) for row in books.statement(caller, start, start + _DAY)]
            return Response(_csv(rows), media_type="text/csv; charset=utf-8")

        @app.put("/v1/admin/faults")
        async def change(request: Request, _: merchant) -> Any:
            try:
                weather.faults = msgspec.json.decode(await request.body(), type=Faults)
            except msgspec.MsgspecError as error:
                raise Refused(400, "invalid-request", str(error)) from None
            return msgspec.to_builtins(weather.faults)

        @app.get("/health")
        async def health() -> dict[str, bool]:
            return {"healthy": True}

        @app.middleware("http")
        async def bounded(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
            size = request.headers.get("content-length", "0" if request.method in ("GET", "HEAD") else "")
            if not size.isdigit():
                return JSONResponse(complaint("length-required", "Say how long the body is: Content-Length."), 411)
            if int(size) > _LIMIT:
                return JSONResponse(complaint("too-large", f"At most {_LIMIT} bytes."), 413, {"connection": "close"})
            return await call(request)

    def _merchant(self, authorization: Annotated[str, Header()] = "") -> str:
        """Who asks, by the API key; a merchant's name is its key's digest."""
        scheme, _, key = authorization.partition(" ")
        given = sha256(key.encode()).hexdigest()
        known = [merchant for merchant in self._merchants if hmac.compare_digest(merchant, given)]
        if scheme.lower() != "bearer" or not known:
            raise Refused(401, "unauthorized", "Send `Authorization: Bearer` and your API key.")
        return known[0]


def _idempotency_key(idempotency_key: Annotated[str, Header()] = "") -> str:
    if not (0 < len(idempotency_key) <= 255 and idempotency_key.isprintable()):
        raise Refused(400, "idempotency-key-missing", "Send an Idempotency-Key of 1 to 255 printable characters.")
    return idempotency_key


_Key = Annotated[str, Depends(_idempotency_key)]


def _caller(merchant: str, key: str, request: Request, body: BaseModel | None) -> Caller:
    """The caller; two requests are the same if path and meaning are, however the JSON was written."""
    said = json.dumps(body.model_dump() if body else None, sort_keys=True)
    return Caller(merchant, key, sha256(f"{request.url.path} {said}".encode()).hexdigest())


def _csv(rows: Sequence[tuple[Any, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows((number, iso(at), *rest) for number, at, *rest in rows)
    return text.getvalue()


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101  # registered for this class alone
    headers = {"retry-after": str(error.after)} if error.after else None
    return JSONResponse(complaint(error.code, error.message), error.status, headers)


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # as above
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse(complaint("invalid-request", f"{where}: {first['msg']}"), 400)


def _other(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # as above
    return JSONResponse(complaint("no-such-thing", str(error.detail)), error.status_code, error.headers)
