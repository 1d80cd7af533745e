"""The `towpath` command without lanes and without receipts: a stage that reads, handles and writes in transactions.

The one rule: nothing else differs. It is where the costs of features begin.
"""

from streams.cli import main
from tests.bench import laneless, receiptless

if __name__ == "__main__":
    laneless.do_without()
    receiptless.do_without()
    main()
