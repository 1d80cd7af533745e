"""The `towpath` command without lanes, receipts and metrics: a stage that reads, handles and writes in transactions.

The one rule: nothing else differs. It is where the costs of features begin.
"""

from streams.cli import main
from tests.bench import laneless, receiptless, tallyless

if __name__ == "__main__":
    laneless.do_without()
    receiptless.do_without()
    tallyless.do_without()
    main()
