"""Payment: the customer pays for what is set aside.

The one rule: one charge for one event, however often it is tried; the provider knows it by the idempotency key.
"""

from streams.stage import Context, Stage
from topologies.orders.events import PaymentCaptured, PaymentFailed, StockReserved
from topologies.orders.ports import Captured, Charge, psp

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
