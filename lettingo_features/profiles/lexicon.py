"""Words that the training corpus of the embedded language model draws names from, and the names it must never see.

Every list is typed by hand for this project. ``HELD_OUT`` holds category names of other domains; each of their words
is taken out of the training lists on import, so that a test on them measures copying and not memory.
"""

from __future__ import annotations

import re

HELD_OUT = {
    "beauty": """Hair Care|Skin Care|Makeup|Fragrance|Nail Polish|Bath & Body|Beard Oils|Shampoo & Conditioner|Lip Balm|
        Sun Protection|Eyeliner|Manicure & Pedicure|Face Masks|Perfume""",
    "tools": """Power Tools & Parts|Plumbing Fixtures|Drill Bits|Abrasives|Welding|Hand Saws|Ladders|Light Bulbs|
        Electrical Outlets|Paint Brushes & Rollers|Screws/Bolts|Safety Goggles""",
    "books": """Sci-Fi|Children's|Young Adult|Historical Fiction|Self-Help|Graphic Novels|True Crime|Cozy Mystery|
        Paranormal Romance|Poetry|Biography & Memoir|Classics|Dystopia""",
    "food": """Gluten-Free Baking|Herbal Teas|Olive Oil & Vinegar|Cheese|Breakfast Cereals|Chocolate|Pasta & Noodles|
        Craft Beer|Hot Sauces|Vegan Snacks|Coffee Beans|Dried Fruit""",
    "music": """Baroque Music|Hip-Hop|Opera|Bossa Nova|Death Metal|K-Pop|Bluegrass|Smooth Jazz|Chamber Quartets|
        R&B/Soul|Ambient Electronica|Synthwave""",
    "home": """Pet Supplies|Kitchen & Dining|Patio, Lawn & Garden|Bedding|Office Chairs|Baby Strollers|Board Games|
        Fishing Tackle|Running Shoes|Laptops & Tablets|Phone Cases|Camping Tents""",
    "other languages": """Krimi|Komödie|Liebesfilme|Ciencia Ficción|Terror Psicológico|Bande Dessinée|Cuisine Française|
        Jardinería|Viaggi e Avventura|Économie|Kochbücher|Música Clásica""",
}
"""Category names that no training text may hold, by domain; ``|`` separates names."""


def held_out_names() -> list[str]:
    """Return every held-out category name, in the order of the table above."""
    return [" ".join(name.split()) for names in HELD_OUT.values() for name in names.split("|")]


HELD_OUT_WORDS = frozenset(
    word.lower() for name in held_out_names() for word in re.findall(r"\w+", name) if len(word) > 1
)
"""Their words, in lower case: no list below holds one, and `corpus.Names` puts none into a category name."""


def _words(text: str, separator: str | None = None) -> list[str]:
    """Split a list and drop each entry that shares a word with a held-out name; order kept, duplicates dropped."""
    entries = dict.fromkeys(" ".join(entry.split()) for entry in text.split(separator))
    return [entry for entry in entries if entry and not HELD_OUT_WORDS & set(re.findall(r"\w+", entry.lower()))]


def _parts(text: str) -> list[str]:
    return text.split()


GENRES = _words(
    """Action|Adventure|Animation|Comedy|Crime|Documentary|Drama|Family|Fantasy|Film-Noir|History|Horror|Musical|
    Mystery|Romance|Sci Fi|Science Fiction|Short|Sport|Thriller|War|Western|News|Talk-Show|Reality-TV|Game-Show|
    Independent|Foreign|Suspense|Disaster|Superhero|Satire|Noir|Travel|Nature|Religion|Philosophy|Economics|Essays|
    Cooking|Crafts|Puzzles|Strategy|Simulation|Racing|Platformer|Shooter|Rock|Blues|Folk|Country|Techno|Reggae|Indie""",
    "|",
)
"""Common names of film, book, game and music categories: a small share of the categories drawn."""

THINGS = _words(
    """Acorn Airship Algebra Alloy Almanac Amber Anchor Antique Apron Aquarium Archive Armour Arrow Atlas Attic Aurora
    Autumn Axle Badge Bakery Ballad Balloon Bamboo Banner Barley Barn Basket Beacon Beetle Bell Bench Bicycle Birch
    Blanket Blossom Boat Bonfire Boot Border Bottle Boulder Bow Branch Bread Brick Bridge Bronze Broom Bucket Buckle
    Button Cabin Cable Cactus Camera Canal Candle Canoe Canvas Canyon Caravan Carbon Card Cargo Carpet Carriage Castle
    Cavern Cedar Cello Ceramic Chain Chalk Channel Chapel Chart Cherry Chess Chimney Choir Cinema Circuit Circus Citrus
    Clay Cliff Clock Cloud Clover Coast Cobalt Coin Collar Colony Column Comet Compass Concert Copper Coral Corner
    Cottage Cotton Court Cradle Crane Crater Creek Crest Cricket Crown Crystal Curtain Cushion Cyclone Dahlia Dance Dawn
    Deck Delta Desert Diamond Diary Dollhouse Dolphin Dome Donkey Door Dragon Drum Dune Eagle Echo Eclipse Elbow Ember
    Embroidery Emerald Empire Engine Envelope Estuary Evening Fable Fabric Falcon Farm Feather Fence Fern Ferry Festival
    Fiddle Field Flame Flannel Fleet Flint Flower Flute Foam Fog Forest Forge Fortress Fossil Fountain Fox Frame Freight
    Frontier Frost Furniture Galaxy Gallery Gate Geology Ginger Glacier Glass Glove Goblet Granite Grass Gravel Guitar
    Gymnastics Hammer Hammock Harbor Harness Harp Harvest Hawk Hazel Heath Hedge Helmet Heron Highway Hinge Hive Honey
    Horizon Horn Horse Hotel Hunter Hurricane Ink Iron Island Ivory Ivy Jacket Jade Jewel Journey Jungle Kayak Kettle
    Keyboard Kingdom Kite Knight Knot Lace Lagoon Lake Lamp Lantern Lark Lattice Lava Leaf Leather Ledger Lemon Lens
    Letter Lever Lighthouse Lily Linen Lion Loom Lumber Machine Magnet Mango Mansion Map Maple Marble Mask Meadow Melody
    Mill Mine Mirror Moon Moss Motor Mountain Museum Mushroom Needle Nest Nettle Night Nomad Notebook Novel Oak Oasis
    Ocean Onion Orbit Orchard Orchid Organ Otter Oven Owl Oyster Paddle Palace Panther Paper Parade Parcel Park Parrot
    Pearl Pebble Pencil Pepper Piano Pilgrim Pillow Pine Pirate Planet Planner Plaza Plum Pocket Pond Porcelain Postcard
    Pottery Prairie Prism Promise Pump Puppet Quarry Quartz Quill Quilt Rabbit Radar Radio Raft Railway Rain Raven Reef
    Ribbon Ridge River Robot Rocket Rope Rose Ruby Saddle Saffron Sail Salmon Salt Sand Sapphire Satellite Scarf School
    Sculpture Seal Season Sewing Shadow Shell Ship Signal Silk Silver Skate Sketch Sky Slate Sleeve Snow Spice Spider
    Spring Stable Stadium Stair Statue Steam Stone Storm Stove Straw Street Summer Swan Table Tailor Tank Telescope
    Temple Theatre Thread Thunder Tide Tiger Timber Toy Trail Train Tulip Tunnel Turbine Umbrella Valley Vase Velvet
    Village Vine Violin Volcano Voyage Wagon Walnut Watch Water Wave Weather Whale Wheat Wheel Whistle Willow Window
    Winter Wolf Wool Workshop Yacht Zebra Zinc"""
)
"""Nouns of many domains, for category names and titles."""

QUALITIES = _words(
    """Ancient Arctic Bitter Blue Bold Brave Bright Brisk Broken Burning Calm Careful Civic Classic Clever Cold Compact
    Cosmic Crimson Cruel Curious Daily Dark Deep Digital Distant Double Dusty Early Eastern Elder Electric Empty Endless
    Epic Faint Famous Fierce Final First Floating Foreign Forgotten Frozen Gentle Giant Global Golden Grand Gray Great
    Green Hidden Hollow Honest Humble Indoor Inner Iron Jolly Lasting Lazy Little Lonely Long Lost Loud Lucky Lunar
    Magic Marine Mellow Midnight Mighty Mild Minor Misty Modern Narrow New Nimble Noble Northern Odd Old Open Orange
    Outdoor Outer Pale Patient Perfect Plain Polar Polite Portable Precious Prime Private Proud Public Pure Purple Quick
    Quiet Rapid Rare Red Restless Rough Round Royal Rural Rustic Sacred Savage Second Secret Shallow Sharp Silent Simple
    Single Sleepy Slow Small Social Soft Solar Solid Southern Square Static Steady Stolen Strange Stray Sudden Sweet
    Swift Tall Tame Tender Thin Third Tiny Total Tropical Twisted Upper Urban Vast Vintage Vivid Wandering Warm Western
    Wicked Wide Wild Winding Wise Wooden Yellow Young Zero"""
)
"""Adjectives, for category names and titles."""

NAMES = _words(
    """Ada Alma Anton Astrid Boris Carla Cedric Clara Dmitri Edith Elena Emil Felix Fiona Gustav Hanna Helga Igor Ines
    Ivan Jonas Karl Lena Leon Lucia Marco Marta Mina Nadia Nils Olga Oscar Pavel Petra Rosa Rufus Selma Simon Sofia
    Tobias Ursula Vera Viktor Wanda Yuri Zelda Abbott Baker Carver Delgado Ellison Fischer Grant Hobbs Iverson Jansen
    Keller Larsen Mercer Novak Osborne Porter Quinn Rossi Sinclair Thorne Usher Vargas Walsh York Zeller Aberdeen Berlin
    Cairo Dakota Eden Florence Geneva Havana Istanbul Jaipur Kyoto Lisbon Madrid Nairobi Oslo Prague Quebec Riga Seville
    Tangier Utah Vienna Warsaw Yukon Zanzibar"""
)
"""Names of people and places, for titles."""

SYLLABLE_STARTS = _parts(
    """ba be bi bo bra bri ca ce chi co cra cu da de di do dra du el en fa fe fi flo fo ga ge gi glo go gra gu ha he
    hi ho il in jo ka ke ki ko kra ku la le li lo lu ma me mi mo mu na ne ni no nu or os pa pe phi pi plo po pra qua ra
    re ri ro ru sa sche se sha si sko so sta su ta te thi ti to tra tu ul um va ve vi vo wa we wi wo xa xi ya yo za ze
    zi zo é á ü ö ø ñ ç å ï ê ß ł ě ã"""
)
SYLLABLE_ENDS = _parts("n r s l m t k ng st x z rd ck nd ff lt")
"""Parts of made-up words: most names of the corpus hold one, so that no list can be learned by heart."""
