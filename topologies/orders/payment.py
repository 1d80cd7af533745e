"""Payment: the customer pays for what is set aside, and has the money back when it is not to be delivered.

The one rule: one charge for one event, however often it is tried; the provider knows it by the idempotency key.
"""

from streams.stage import Context, Stage
from topologies.orders.events import PaymentCaptured, PaymentFailed, PaymentRefunded, RefundRequested, StockReserved
from topologies.orders.ports import Captured, Charge, Refund, psp

payment = Stage("payment", ports=[psp])


@payment.on
async def capture(order: StockReserved, ctx: Context) -> PaymentCaptured | PaymentFailed:
    """Charge the customer, or say why the provider would not."""
    charge = Charge(ctx.idempotency_key, order.order_id, order.customer_id, order.total_minor, order.currency)
    outcome = await ctx.use(psp).capture(charge)
    what = (order.order_id, order.customer_id, order.currency, order.total_minor)
    if isinstance(outcome, Captured):
        return PaymentCaptured(*what, outcome.payment_id)
    return PaymentFailed(*what, outcome.code, outcome.reason)


@payment.on
async def refund(wanted: RefundRequested, ctx: Context) -> PaymentRefunded:
    """Give the customer the money back. The key is the payment's: it goes back once, whoever asks."""
    key = f"refund-{wanted.payment_id}"
    await ctx.use(psp).refund(Refund(key, wanted.order_id, wanted.payment_id, wanted.total_minor))
    what = (wanted.order_id, wanted.customer_id, wanted.currency, wanted.total_minor)
    return PaymentRefunded(*what, wanted.payment_id, wanted.code, wanted.reason)
