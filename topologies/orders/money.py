"""Money: the currencies of ISO 4217 and how an amount is written for a customer.

The one rule: amounts are whole minor units; only here do they become text.
"""

from collections.abc import Mapping
from typing import Final

LARGEST: Final = 2**63 - 1
"""What an Avro `long` holds, in minor units."""

_DIGITS: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW "
    "CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS "
    "INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN "
    "NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC "
    "SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
CURRENCIES: Final[Mapping[str, int]] = {code: digits for digits, codes in _DIGITS.items() for code in codes.split()}
"""Code → how many decimal digits its minor unit has (ISO 4217, list one, 2025)."""


def amount(minor: int, currency: str) -> str:
    """`12345, "USD"` → `123.45 USD`. A currency that is unknown here is taken to have two digits."""
    digits = CURRENCIES.get(currency, 2)
    if not digits:
        return f"{minor} {currency}"
    whole, rest = divmod(abs(minor), 10**digits)
    return f"{'-' if minor < 0 else ''}{whole}.{rest:0{digits}} {currency}"
