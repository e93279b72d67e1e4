namespace Shop;

// What the services send each other, as JSON.

public sealed record CheckoutRequest(string Uid, int Cart, string Reference);

public sealed record OrderLine(string Sku, int Quantity);

public sealed record OrderRequest(string Uid, string Reference, IReadOnlyList<OrderLine> Lines);

public sealed record OrderAnswer(long Id, string State);

public sealed record OrderView(long Id, string Uid, string State, string? Payment, IReadOnlyList<ItemView> Items);

public sealed record ItemView(string Sku, string Title, int PriceCents, int Quantity);

public sealed record ReservationRequest(long Order, string Reference, IReadOnlyList<OrderLine> Lines);

public sealed record PaymentRequest(long Order, string Reference, int Attempt);

public sealed record PaymentView(long Order, string State);

public sealed record SettlementRequest(IReadOnlyList<long> Orders);
